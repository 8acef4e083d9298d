# SPDX-License-Identifier: BSD-2-Clause
"""Opens a session with each TA that is named; the one that was there before must go on as it was.

Arguments: the UUID of that one, and those of the others. A line for each: its UUID, code and origin
of the open.
"""

import sys

from gentee.client import Context, Session, Value
from gentee.errors import TeeError


def check(session: Session) -> None:
    value = Value(41)
    session.invoke(0, value)
    assert value.a == 42


with Context() as context:
    honest = context.open_session(sys.argv[1])
    for uuid in sys.argv[2:]:
        code = origin = 0
        try:
            context.open_session(uuid)
        except TeeError as error:
            code, origin = error.code, error.origin or 0
        print(uuid, hex(code), origin, flush=True)
        check(honest)
    check(context.open_session(sys.argv[1]))
