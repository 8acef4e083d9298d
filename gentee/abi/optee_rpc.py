# SPDX-License-Identifier: BSD-2-Clause
"""What OP-TEE asks of the normal world, as far as gentee does: <optee_rpc_cmd.h>, OP-TEE 4.10."""

OPTEE_RPC_CMD_SHM_ALLOC = 6  # value in/out: type, size, alignment; then the id in c
OPTEE_RPC_CMD_SHM_FREE = 7  # value: type, id
OPTEE_RPC_SHM_TYPE_APPL = 0  # memory that a program of the normal world, the supplicant, has

# value: OPTEE_RPC_SUPP_PLUGIN_INVOKE, then four words of the plugin's UUID in octets, command, and
# sub-command with room for the length of what comes back; memref in/out: data
OPTEE_RPC_CMD_SUPP_PLUGIN = 12
OPTEE_RPC_SUPP_PLUGIN_INVOKE = 0
