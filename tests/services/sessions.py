# SPDX-License-Identifier: BSD-2-Clause
"""Sessions: knows which sessions are open, so that a client can watch another one's end."""

from gentee.ta import BadParameters, Params, TrustedApplication, Value

SESSIONS_COUNT = 0  # value in/out: a = a tag; then a = sessions open with it, b = opened ever
SESSIONS_TAG = 1  # value out: a = the tag of this session


class Sessions(TrustedApplication):
    """A session is opened with a tag (value in), or without any parameter: tag 0."""

    uuid = "5e55104e-0c0a-4d5b-9c61-7e0f5b1d2a01"
    name = "sessions"
    single_instance = True
    multi_session = True
    keep_alive = True

    def TA_CreateEntryPoint(self) -> None:
        self.open: dict[int, int] = {}
        self.ever: dict[int, int] = {}

    def TA_OpenSessionEntryPoint(self, param_types: int, params: Params) -> int:
        tag = params[0].a if isinstance(params[0], Value) else 0
        self.open[tag] = self.open.get(tag, 0) + 1
        self.ever[tag] = self.ever.get(tag, 0) + 1
        return tag

    def TA_CloseSessionEntryPoint(self, session: int) -> None:
        self.open[session] -= 1

    def TA_InvokeCommandEntryPoint(
        self, session: int, command_id: int, param_types: int, params: Params
    ) -> None:
        value = params[0]
        if not isinstance(value, Value):
            raise BadParameters("one value")
        if command_id == SESSIONS_COUNT:
            value.a, value.b = self.open.get(value.a, 0), self.ever.get(value.a, 0)
        elif command_id == SESSIONS_TAG:
            value.a = session
        else:
            raise BadParameters(f"command {command_id}")
