# SPDX-License-Identifier: BSD-2-Clause
"""Loads each image of a folder; the service that was there before must go on as it was.

Arguments: the folder, the UUID of that service, the number that its command answers with. A line
for each image: its name, the code and origin of the load, what a new session of the service says.
"""

import sys
from pathlib import Path

from gentee.client import Context, Session, Value
from gentee.errors import TeeError


def number(session: Session) -> int:
    value = Value()
    session.invoke(0, value)
    return value.a


folder, uuid = Path(sys.argv[1]), sys.argv[2]
with Context() as context:
    session = context.open_session(uuid)
    for path in sorted(folder.iterdir()):
        code = origin = 0
        try:
            context.load(path.read_bytes())
        except TeeError as error:
            code, origin = error.code, error.origin or 0
        except OSError as error:
            code = -(error.errno or 1)
        assert number(session) == int(sys.argv[3])
        fresh = context.open_session(uuid)
        print(path.name, hex(code), origin, number(fresh), flush=True)
        fresh.close()
