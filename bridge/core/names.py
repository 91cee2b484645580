"""What names of streams and keys look like."""

import re
from typing import Final

NAME_RULE: Final = "[a-z][a-z0-9_]{0,63}"
KEY_RULE: Final = "[A-Za-z0-9:._-]{1,128}"
NAME: Final = re.compile(NAME_RULE)
KEY: Final = re.compile(KEY_RULE)
