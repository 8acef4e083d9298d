# SPDX-License-Identifier: BSD-2-Clause
"""The channel between the software TEE and a trusted service's process: gentee's own contract.

A service waits for its next command in an ioctl that its filter traps, so that one receive serves
clients and services. Commands and results travel in a page that both map, the *mailbox*; payload
never does: the pages of the client's shared memory are mapped into the service.

The service is not trusted. Of the mailbox, the TEE reads each word once, after the service has
stopped running, and takes results only for the command that it gave.
"""

from gentee.abi.ioctl import _IO
from gentee.abi.linux_tee import TEE_IOC_MAGIC

# Numbers far from Linux's and from gentee's own extensions. Only a registered service's thread is
# served; anybody else's are EINVAL as any unknown command.
TA_IOC_HELLO = _IO(TEE_IOC_MAGIC, 0xF0)  # argument: the token of the spawn. Returns the mailbox
TA_IOC_NEXT = _IO(TEE_IOC_MAGIC, 0xF1)  # done with the last command; returns the next one's code
TA_IOC_WAIT = _IO(TEE_IOC_MAGIC, 0xF2)  # argument: milliseconds, -1 for ever. 1 if cancelled
TA_IOC_REQUEST = _IO(TEE_IOC_MAGIC, 0xF3)  # argument: RQ_*. Returns 0, the result is in the block

# Commands
TA_CREATE = 1  # load the service from the descriptor in FUNC and create the instance
TA_OPEN_SESSION = 2
TA_INVOKE = 3
TA_CLOSE_SESSION = 4
TA_UNMAP = 5  # no result: only the maps are dropped
TA_DESTROY = 6  # call the destroy entry point; the process ends
TA_REST = 7  # nothing to do for now: wait, in a futex on RESTING, and then for the next command
TA_FORK = 9  # of a template: fork a process that introduces itself with the token in FUNC
TA_REAP = 10  # of a template: the end of the process FUNC is known, its number may be used again
TA_DUMP_MEMSTATS = 8  # of an OP-TEE TA: what its heap has; four values of three parameters

# Requests: what a service asks of the TEE while it is at work for a command
RQ_OPEN_TA_SESSION = 1
RQ_INVOKE_TA_COMMAND = 2
RQ_CLOSE_TA_SESSION = 3
RQ_CALL_WINDOW = 4  # FUNC: bytes; then the descriptor of the call window, SIZE its bytes
RQ_GET_PERSISTENT_TIME = 5
RQ_SET_PERSISTENT_TIME = 6
RQ_OPEN_BIN = 7  # UUID: a library of an OP-TEE TA; then a descriptor in FUNC, SIZE its bytes
# Trusted storage: words S_*, attributes and data in the call window, from its start on
RQ_STORAGE_OPEN = 16  # STORAGE, FLAGS, ID: then HANDLE, what the object is, its attributes
RQ_STORAGE_CREATE = 17  # the same, and what it is, attributes and LENGTH bytes; then HANDLE
RQ_STORAGE_CLOSE = 18  # HANDLE
RQ_STORAGE_DELETE = 19  # HANDLE, which stays
RQ_STORAGE_RENAME = 20  # HANDLE, ID
RQ_STORAGE_READ = 21  # HANDLE, POSITION, LENGTH; then LENGTH bytes
RQ_STORAGE_WRITE = 22  # HANDLE, POSITION, LENGTH bytes
RQ_STORAGE_TRUNCATE = 23  # HANDLE, POSITION
RQ_STORAGE_GET_USAGE = 24  # HANDLE; then USAGE
RQ_STORAGE_SET_USAGE = 25  # HANDLE, USAGE
RQ_STORAGE_START_ENUM = 26  # HANDLE: a number of the TA's choice; STORAGE
RQ_STORAGE_NEXT_ENUM = 27  # HANDLE; then ID, FLAGS, what the object is, its attributes
RQ_STORAGE_STOP_ENUM = 28  # HANDLE

MAILBOX_SIZE = 4096
LOG_LINE_MAX = 2048  # bytes; longer lines are cut
REPORT_MARK = b"\x02"  # what a line starts with that is a crash report: gentee.ta.report
REPORT_MAX = 32 << 10  # bytes of a report, without mark and newline

# Words (u64) of the mailbox. Command:
M_SESSION = 1
M_FUNC = 2
M_CANCEL = 3  # set at any time: the client asks to cancel the running command
M_RESTING = 6  # 1 from TA_REST on; then the TEE makes it 0 and wakes who waits for that
M_PARAM_TYPES = 8  # TEE_PARAM_TYPES(), four bits each
M_PARAMS = 9  # four times a, b, c: value a, b, -; memref offset, size, key of the map
M_NUM_MAPS = 24
M_MAPS = 25  # up to MAX_MAPS times key, descriptor, size: new maps, before this command
MAX_MAPS = 8
M_NUM_UNMAPS = 50
M_UNMAPS = 51  # up to MAX_UNMAPS keys: maps to drop, before this command
MAX_UNMAPS = 64
M_BLOCKS = 118  # create, recorded and template: a descriptor of gentee.ta.hot_blocks
M_KIND = 119  # create: CREATE_*
M_LOGIN = 120
M_CLIENT_UUID = 122  # two words: 16 bytes as they are
M_UUID = 124  # of the service itself
M_MEMORY_LIMIT = 126  # create: bytes of private memory that the process may have
# Result:
M_RET = 4
M_FLAGS = 5  # R_*

# How an OP-TEE TA comes to be loaded:
CREATE_PLAIN = 0
CREATE_RECORDED = 1  # and what code it runs is noted
CREATE_TEMPLATE = 2  # it never runs: others are forked from it
CREATE_FORKED = 3  # not at all: its process is a fork of a template

R_LOGGED = 1  # lines were written to the log during this command
R_REFUSED = 2  # no memory to call the TA's entry point: the result's origin is the TEE

NULL_KEY = 0  # a NULL memory reference
WINDOW_KEY = 1  # the window that registered memory is copied through
# With a key, for TAs of OP-TEE: whose the bytes are, where they are not the normal world's.
KEY_PROTECTED = 1 << 32  # of a secure data path
KEY_SECURE = 1 << 33  # another service's
KEY_MASK = (1 << 32) - 1

# The request block: words of its own, so that those of the command stay as they are. Request:
Q_BLOCK = 128  # its first word
Q_WORDS = 22
Q_SESSION = 130  # invoke, close; and the result of open
Q_FUNC = 131  # invoke: the command; call window: bytes, then the descriptor
Q_IS_PSEUDO = 131  # result of open: 1 if it is a pseudo TA; the asker makes it 0 before
Q_TIMEOUT = 132  # milliseconds until the called service is asked to end, 2**32 - 1 never
Q_UNMASKED = 133  # a cancellation of the caller's own command goes on to the called one
Q_UUID = 134  # two words: 16 bytes as they are
Q_PARAM_TYPES = 136
Q_PARAMS = 137  # four times a, b, c: value a, b, -; memref offset, size, Q_GIVEN or 0 for NULL
# The third word of a memref is Q_GIVEN, with one of the others where it is no service's own memory.
Q_GIVEN = 1
Q_NORMAL = 2  # a client's, of the normal world
Q_PROTECTED = 4  # of a secure data path
Q_SECONDS = 137  # of a time; 64 bits, for it may overflow what TEE_Time holds
Q_MILLIS = 138
Q_SIZE = 149
# Result:
Q_RET = 128
Q_ORIGIN = 129

# Words of the block that requests RQ_STORAGE_* have. Where the call window is too small, the result
# is TEE_ERROR_SHORT_BUFFER, and LENGTH what it must have.
S_HANDLE = 130
S_STORAGE = 131  # TEE_STORAGE_*
S_FLAGS = 132  # TEE_DATA_FLAG_*, and of create S_*
S_POSITION = 133  # in the data stream
S_LENGTH = 134
S_ID_SIZE = 135  # bytes of the object's identifier
S_ID = 136  # eight words: the identifier
S_TYPE = 144  # what an object is: TEE_TYPE_*
S_SIZE = 145  # in the low half obj_size, in the high half max_obj_size: bits
S_USAGE = 146  # TEE_USAGE_*
S_ATTRS = 147  # in the low half have_attrs, in the high half bytes of the attributes
S_DATA_SIZE = 148
# Flags of create, above those of the API:
S_PROBE = 1 << 32  # nothing is made: only say whether other handles are in the way
S_CREATING = 1 << 33  # until it is closed nobody else opens it

MAX_ATTRS = 60 << 10  # bytes of an object's attributes: less than the smallest window

# Bytes that the references of one call to another service may need together. Private memory is
# copied, so this bounds what gentee holds for a service.
MAX_CALL_WINDOW = 64 << 20
