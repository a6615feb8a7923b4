"""Runs ministack as the AWS of the tests.

The emulator serves the listening socket that its parent hands over as file descriptor 3, and lives as long as
the parent holds the other end of its standard input: at its end this process kills its own group, so that
neither the emulator nor a Lambda outlives a test, however the test dies.

Each function named add_… adds one thing that AWS has and ministack lacks. They replace private parts of it and
therefore fit one version.
"""

import asyncio
import importlib.metadata
import json
import logging
import os
import queue
import signal
import socketserver
import sys
import threading
import time

MINISTACK = "1.5.33"
LISTENER = 3

# AWS tries an event that a function failed on twice more, after one minute and then two.
# Nobody wants to wait for that here.
FAILED_EVENT_RETRIES = (1, 2)
# AWS keeps a throttled event for six hours and asks again with growing pauses.
THROTTLED_EVENT_PAUSE = 0.05
UNRESERVED_CONCURRENCY = 10

log = logging.getLogger("launcher")


def end_with_parent():
    def wait():
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def add_task_definitions(provisioners, ecs):
    """CloudFormation's task definitions keep all their parts, spelt as the ECS API spells them.

    ministack drops some properties and leaves the names inside health checks, dependencies and volumes in
    CloudFormation's spelling, so that an SDK reading the task definition finds them empty.
    """
    free_form = {"options", "dockerLabels", "driverOpts", "labels"}  # maps whose keys are the user's own

    def api_form(value):
        if isinstance(value, list):
            return [api_form(v) for v in value]
        if not isinstance(value, dict):
            return value
        named = ((key[0].lower() + key[1:], v) for key, v in value.items())
        return {key: v if key in free_form else api_form(v) for key, v in named}

    create = provisioners._ecs_task_def_create

    def create_whole(logical_id, props, stack):
        arn, attributes = create(logical_id, props, stack)
        whole = api_form({k: v for k, v in props.items() if k not in ("Family", "Tags")})
        ecs._task_defs[arn.rsplit("/", 1)[1]].update(whole)
        return arn, attributes

    provisioners._ecs_task_def_create = create_whole
    provisioners._RESOURCE_HANDLERS["AWS::ECS::TaskDefinition"]["create"] = create_whole


def add_desired_counts(ecs):
    """A service's desired count may come from a template parameter, which ministack keeps as a string."""

    def counting(action):
        def act(data):
            if isinstance(data.get("desiredCount"), str):
                data = {**data, "desiredCount": int(data["desiredCount"])}
            return action(data)

        return act

    ecs._create_service = counting(ecs._create_service)
    ecs._update_service = counting(ecs._update_service)


def add_reserved_concurrency(provisioners, functions):
    """A function's reserved concurrency holds. ministack's CloudFormation ignores the property."""

    def reserve(handler, properties):
        def handle(*args):
            name, attributes = handler(*args)
            reserved = properties(args).get("ReservedConcurrentExecutions")
            functions._functions[name]["concurrency"] = None if reserved is None else int(reserved)
            return name, attributes

        return handle

    wrap(provisioners, "AWS::Lambda::Function", reserve)


def add_batch_rule(provisioners):
    """A batch of more than 10 messages needs a window. ministack takes any size."""

    def refuse(handler, properties):
        def handle(*args):
            mapping = properties(args)
            if int(mapping.get("BatchSize", 10)) > 10 and not int(mapping.get("MaximumBatchingWindowInSeconds", 0)):
                raise ValueError(
                    "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
                )
            return handler(*args)

        return handle

    wrap(provisioners, "AWS::Lambda::EventSourceMapping", refuse)


def wrap(provisioners, resource_type, wrapper):
    """Wraps what creates and what updates a type of resource; properties(args) are the wanted ones."""
    handlers = provisioners._RESOURCE_HANDLERS[resource_type]
    handlers["create"] = wrapper(handlers["create"], lambda args: args[1])  # logical ID, properties, stack
    handlers["update"] = wrapper(handlers["update"], lambda args: args[2])  # ID, old properties, new ones, …


def add_asynchronous_invocation(eventbridge, functions):
    """An event for a function waits while the function is busy, and is tried again when it fails.

    ministack drops it, so that of two events at once a function with a reserved concurrency of 1 sees one.
    """
    queues = {}  # one for each function, in the order of the events

    def deliver(arn, payload):
        function, config, name = functions._get_func_record_for_ref(arn)
        if not function or not config:
            log.warning("no function %s for an event", name)
            return
        if name not in queues:
            queues[name] = queue.Queue()
            for _ in range(function.get("concurrency") or UNRESERVED_CONCURRENCY):
                threading.Thread(target=work, args=(name, queues[name]), daemon=True).start()
        record = functions._execution_record_for_config(function, config)
        queues[name].put((record, json.loads(payload)))

    def work(name, events):
        while True:
            record, event = events.get()
            retries = list(FAILED_EVENT_RETRIES)
            while not handled(record, name, event) and retries:
                time.sleep(retries.pop(0))

    def handled(record, name, event):
        while True:
            result = functions._execute_function_with_config_scope(record, event)
            if not result.get("throttle"):
                break
            time.sleep(THROTTLED_EVENT_PAUSE)  # something else invoked the function
        log.info("%s handled an event:\n%s", name, result.get("log", ""))
        if result.get("error"):
            log.warning("%s failed: %s", name, json.dumps(result.get("body")))
        return not result.get("error")

    eventbridge._dispatch_to_lambda = deliver


def add_quick_answers(scheduler):
    """Nothing takes seconds here that takes milliseconds on AWS."""
    # A function's Runtime API sends each event in two pieces, and TCP would hold the second back for 40 ms.
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True
    # Schedules are looked at each second instead of every ten.
    scheduler._SCHEDULE_TICK_INTERVAL = 1


class Control:
    """The tests' own entrance beside AWS's API: events that only AWS itself may send, and faults.

    POST /_test/events  puts an event on the default bus as it is: source, id and time are not touched.
    POST /_test/faults  makes the next calls of an action slow, or fail.
    DELETE /_test/faults  takes back what has not happened yet.
    """

    def __init__(self, aws, eventbridge):
        self.aws = aws
        self.eventbridge = eventbridge
        self.faults = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.aws(scope, receive, send)
        match scope["method"], scope["path"]:
            case "POST", "/_test/events":
                event = await read_json(receive)
                self.eventbridge._dispatch_event(self.eventbridge._event_from_test_payload(event))
                return await reply(send, 200, {})
            case "POST", "/_test/faults":
                self.faults.append(await read_json(receive))
                return await reply(send, 200, {})
            case "DELETE", "/_test/faults":
                self.faults.clear()
                return await reply(send, 200, {})
        fault = self.take_fault(action_of(scope))
        if fault:
            await asyncio.sleep(fault["delay_seconds"])
            if fault["code"]:
                error = {"__type": fault["code"], "message": "fault injected by a test"}
                return await reply(send, fault["status"], error)
        return await self.aws(scope, receive, send)

    def take_fault(self, action):
        for fault in self.faults:
            if fault["action"] == action:
                fault["times"] -= 1
                if fault["times"] == 0:
                    self.faults.remove(fault)
                return fault
        return None


def action_of(scope):
    target = dict(scope["headers"]).get(b"x-amz-target", b"").decode()
    return target.rsplit(".", 1)[-1]


async def read_json(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return json.loads(body)


async def reply(send, status, body):
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/x-amz-json-1.1"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main():
    found = importlib.metadata.version("ministack")
    if found != MINISTACK:
        sys.exit(f"this launcher fits ministack {MINISTACK}, not {found}: run `make tools`")
    end_with_parent()

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app
    from ministack.services import ecs, eventbridge, lambda_svc, scheduler
    from ministack.services.cloudformation import provisioners

    add_task_definitions(provisioners, ecs)
    add_desired_counts(ecs)
    add_reserved_concurrency(provisioners, lambda_svc)
    add_batch_rule(provisioners)
    add_asynchronous_invocation(eventbridge, lambda_svc)
    add_quick_answers(scheduler)

    config = Config()
    config.bind = [f"fd://{LISTENER}"]
    config.keep_alive_timeout = 75
    asyncio.run(serve(Control(app.app, eventbridge), config))


if __name__ == "__main__":
    main()
