"""`python -m tests.clients [NAME...]`."""

from tests.clients.run import main

raise SystemExit(main())
