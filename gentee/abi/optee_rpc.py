# SPDX-License-Identifier: BSD-2-Clause
"""What OP-TEE asks of the normal world, as far as gentee does: <optee_rpc_cmd.h>, OP-TEE 4.10."""

OPTEE_RPC_CMD_SHM_ALLOC = 6  # value in/out: type, size, alignment; then the id in c
OPTEE_RPC_CMD_SHM_FREE = 7  # value: type, id
OPTEE_RPC_SHM_TYPE_APPL = 0  # memory that a program of the normal world, the supplicant, has

# value: OPTEE_RPC_SUPP_PLUGIN_INVOKE, then four words of the plugin's UUID in octets, command, and
# sub-command with room for the length of what comes back; memref in/out: data
OPTEE_RPC_CMD_SUPP_PLUGIN = 12
OPTEE_RPC_SUPP_PLUGIN_INVOKE = 0

# The first value is what to do and the id of a TA's instance, then the socket's handle; further:
# OPEN value: port, protocol, IP version; memref in: address; value out: handle
# SEND memref in; value in/out: timeout in ms, then how many bytes were sent
# RECV memref out; value: timeout in ms
# IOCTL memref in/out; value: command
OPTEE_RPC_CMD_SOCKET = 10
OPTEE_RPC_SOCKET_OPEN = 0
OPTEE_RPC_SOCKET_CLOSE = 1
OPTEE_RPC_SOCKET_CLOSE_ALL = 2
OPTEE_RPC_SOCKET_SEND = 3
OPTEE_RPC_SOCKET_RECV = 4
OPTEE_RPC_SOCKET_IOCTL = 5
