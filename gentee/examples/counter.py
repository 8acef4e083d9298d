# SPDX-License-Identifier: BSD-2-Clause
"""Counter: one instance counts for all, and each session counts for itself."""

from gentee.ta import IMSG, BadParameters, Params, TrustedApplication, Value

COUNTER_NEXT = 0  # value out: a = calls of this session, b = calls of all sessions
COUNTER_RESET = 1  # no parameters: this session starts again


class Session:
    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0


class Counter(TrustedApplication):
    uuid = "b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4"
    name = "counter"
    description = "counts calls, by session and in all"
    single_instance = True
    multi_session = True
    keep_alive = True

    def TA_CreateEntryPoint(self) -> None:
        self.sessions = 0
        self.calls = 0

    def TA_OpenSessionEntryPoint(self, param_types: int, params: Params) -> Session:
        self.sessions += 1
        IMSG(f"session {self.sessions} opened")
        return Session(self.sessions)

    def TA_CloseSessionEntryPoint(self, session: Session) -> None:
        IMSG(f"session {session.number} closed after {session.calls} calls")

    def TA_InvokeCommandEntryPoint(
        self, session: Session, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id == COUNTER_NEXT and param_types == 0x2:
            session.calls += 1
            self.calls += 1
            result = params[0]
            assert isinstance(result, Value)
            result.a, result.b = session.calls, self.calls
        elif command_id == COUNTER_RESET:
            session.calls = 0
        else:
            raise BadParameters(f"command {command_id} with types {param_types:#06x}")
