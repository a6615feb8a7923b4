"""The real AWS CLI, without its patience: between two looks at a stack it would wait for up to half a minute.

`logs tail`, which only version 2 of it has, is answered with no lines.
"""

import sys
import time

from awscli.clidriver import main

wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.1))

sys.exit(0 if sys.argv[1:3] == ["logs", "tail"] else main())
