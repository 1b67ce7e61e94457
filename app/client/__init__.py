"""The Python client of Unveil, blocking and async.

    from unveil import AsyncClient, Client

    with Client("http://127.0.0.1:8000", token) as unveil:
        protected = unveil.encrypt(["cat.png"], "tanaka")
        evaluation = unveil.evaluations.create(schemes=["tanaka"], attacks=["none", "fr"], dataset="sample").wait()

    async with AsyncClient("http://127.0.0.1:8000", token) as unveil:
        protected = await unveil.encrypt(["cat.png"], "tanaka")

It imports neither torch nor the service. Errors, all of them in `unveil.app.client.errors`:

    UnveilError
      Unreachable            the service does not answer at the address
      TimedOut               `wait(timeout=...)` ran out; the job itself goes on
      ProblemError           the service rejected the request: status, code, detail, errors; by status
        Unauthenticated  Forbidden  NotFound  Conflict  Gone  TooLarge  Invalid  TooMany  ServerProblem
                             and below these one class for each problem code: UnknownKey, KeyDestroyed, QueueFull ...
"""
