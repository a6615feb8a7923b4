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
import re
import signal
import socketserver
import string
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

MINISTACK = "1.5.33"
LISTENER = 3

# AWS tries an event that a function failed on twice more, after one minute and then two.
# Nobody wants to wait for that here.
FAILED_EVENT_RETRIES = (1, 2)
# AWS keeps a throttled event for six hours and asks again with growing pauses.
THROTTLED_EVENT_PAUSE = 0.05
UNRESERVED_CONCURRENCY = 10
# What the ECS that runs the tasks answers. The rest of ECS is ministack's.
TASK_CALLS = ("ListTasks", "DescribeTasks", "StopTask")
# And about deployments, with the field that has the ARNs of what they are about.
DEPLOYMENT_CALLS = {"DescribeServiceDeployments": "serviceDeploymentArns", "DescribeServiceRevisions": "serviceRevisionArns"}
# The credentials that ECS gives a task are good for six hours.
ROLE_SESSION = 6 * 60 * 60

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


def add_generated_secrets(provisioners):
    """A secret may be generated without punctuation. ministack knows only characters to leave out."""
    generate = provisioners._sm_secret_string

    def generate_readable(props):
        wanted = props.get("GenerateSecretString") or {}
        if str(wanted.get("ExcludePunctuation")).lower() == "true":
            characters = wanted.get("ExcludeCharacters", "") + string.punctuation
            props = {**props, "GenerateSecretString": {**wanted, "ExcludeCharacters": characters}}
        return generate(props)

    provisioners._sm_secret_string = generate_readable


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


def add_macros(provisioners, changesets, engine, functions):
    """A macro's function is given the template, and its answer takes the template's place, before AWS's transforms.

    ministack has neither the resource nor the transform. Embedded macros (Fn::Transform) aren't run.
    """
    macros = {}  # the functions' ARNs, by the macros' names

    def put(props):
        macros[props["Name"]] = props["FunctionName"]
        return props["Name"], {}

    provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Macro"] = {
        "create": lambda logical_id, props, stack: put(props),
        "update": lambda physical_id, old, new, stack: put(new),
        "delete": lambda physical_id, props: macros.pop(physical_id, None),
    }
    transform = changesets._apply_transforms

    def expand(name, template, parameters):
        function, config, _ = functions._get_func_record_for_ref(macros[name])
        account, region = config["FunctionArn"].split(":")[4], config["FunctionArn"].split(":")[3]
        result = functions._execute_function_with_config_scope(functions._execution_record_for_config(function, config), {
            "region": region,
            "accountId": account,
            "transformId": f"{account}::{name}",
            "requestId": f"request-{time.time_ns()}",
            "params": {},
            "templateParameterValues": parameters,
            "fragment": {section: content for section, content in template.items() if section != "Transform"},
        })
        log.info("%s expanded a template:\n%s", name, result.get("log", ""))
        answer = result.get("body")
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        if result.get("error") or str(answer.get("status")).lower() != "success":
            said = answer.get("errorMessage") if not result.get("error") else None
            words = f"failed with: {said}" if said else "failed without an error message."
            return engine._TransformFailed(template, f"Transform {account}::{name} {words}")
        whole = dict(answer["fragment"], Transform=template["Transform"])
        return engine._without_transform(whole, name)

    def apply(template, provided_params=None, previous_params=None):
        for name in engine.declared_transforms(template):
            if name in macros:
                template = expand(name, template, engine._transform_parameters(template, provided_params, previous_params))
            if isinstance(template, engine._TransformFailed):
                return template
        return transform(template, provided_params, previous_params)

    changesets._apply_transforms = apply


def add_query_definitions(provisioners, logs):
    """Queries of Logs Insights can have comments, and be kept, in templates too, and listed. ministack only runs them.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutQueryDefinition.html
    """
    kept = {}  # by their IDs

    def put(query_id, props):
        groups = props.get("LogGroupNames") or []
        for name, value, most in (("Name", props["Name"], 255), ("QueryString", props["QueryString"], 10000)):
            if not 1 <= len(value) <= most:
                raise ValueError(f"{name} must have 1 to {most} characters, and has {len(value)}")
        if missing := [group for group in groups if group not in logs._log_groups]:
            raise ValueError(f"The specified log group does not exist: {missing[0]}")
        kept[query_id] = {
            "queryDefinitionId": query_id,
            "name": props["Name"],
            "queryString": props["QueryString"],
            "logGroupNames": groups,
            "lastModified": int(time.time() * 1000),
        }
        return query_id, {"QueryDefinitionId": query_id}

    provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
        "create": lambda logical_id, props, stack: put(str(uuid.uuid4()), props),
        "update": lambda physical_id, old, new, stack: put(physical_id, new),
        "delete": lambda physical_id, props: kept.pop(physical_id, None),
    }
    split = logs._split_insights_pipes
    # Comments are none of ministack's, which takes an apostrophe in one for the beginning of a text.
    logs._split_insights_pipes = lambda query: split(re.sub(r"(?m)^\s*#.*$", "", query or ""))
    handle = logs.handle_request

    async def handle_definitions(method, path, headers, body, query_params):
        if not headers.get("x-amz-target", "").endswith(".DescribeQueryDefinitions"):
            return await handle(method, path, headers, body, query_params)
        prefix = read_object(body).get("queryDefinitionNamePrefix", "")
        found = [query for query in kept.values() if query["name"].startswith(prefix)]
        return json_response({"queryDefinitions": found})

    from ministack.core.responses import json_response

    logs.handle_request = handle_definitions


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


def add_queue_policies(eventbridge, sqs, evaluator):
    """A rule's event gets into a queue that is there and whose policy lets it in, or else, and without another try,
    into the target's dead-letter queue. ministack looks at no queue's policy and drops what it can't deliver.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    invoke = eventbridge._invoke_target

    def lets_in(queue_arn, rule):
        queue = sqs._queue_by_arn(queue_arn)
        policy = queue and queue["attributes"].get("Policy")
        if not policy:
            return False
        call = evaluator.EvalContext(
            principal_arn="",
            principal_type="Service",
            principal_account="",
            action="sqs:SendMessage",
            resource_arn=queue_arn,
            region=queue_arn.split(":")[3],
            service_context={"aws:sourcearn": rule["Arn"]},
        )
        return evaluator.evaluate_resource_policy(policy, call, service="events.amazonaws.com").decision == "Allow"

    def invoke_allowed(target, event, rule, view=None):
        if ":sqs:" in target["Arn"] and not lets_in(target["Arn"], rule):
            dead_letters = (target.get("DeadLetterConfig") or {}).get("Arn", "")
            if not dead_letters or not lets_in(dead_letters, rule):
                log.warning("an event of %s is lost: neither %s nor %s takes it", rule["Arn"], target["Arn"], dead_letters)
                return None
            target = {"Id": target["Id"], "Arn": dead_letters}
        return invoke(target, event, rule, view)

    eventbridge._invoke_target = invoke_allowed


def add_quick_answers(scheduler):
    """Nothing takes seconds here that takes milliseconds on AWS."""
    # A function's Runtime API sends each event in two pieces, and TCP would hold the second back for 40 ms.
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True
    # Schedules are looked at each second instead of every ten.
    scheduler._SCHEDULE_TICK_INTERVAL = 1


def add_tasks(ecs, endpoint):
    """Calls about tasks go to who runs them, after ministack has found that the caller may make them."""
    handle = ecs.handle_request

    def hand_on(headers, body):
        wanted = {name: headers[name] for name in ("content-type", "x-amz-target")}
        request = urllib.request.Request(endpoint, body, wanted, method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, dict(refusal.headers), refusal.read()

    async def handle_tasks(method, path, headers, body, query_params):
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        if action in TASK_CALLS or action in DEPLOYMENT_CALLS:
            status, sent, content = await asyncio.to_thread(hand_on, headers, body)
            return status, {"Content-Type": sent["Content-Type"]}, content
        return await handle(method, path, headers, body, query_params)

    ecs.handle_request = handle_tasks


def add_task_permissions(actions):
    """Calls about tasks are judged by the task's ARN and by the condition key ecs:cluster.

    ministack judges them by the cluster's ARN and knows no ecs:cluster, so that it denies what AWS allows:
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
    The tasks of one call are all of one cluster, so the first stands for them, and so does the first deployment.
    """
    resource_arn, context = actions.extract_resource_arn, actions.request_tag_context

    def cluster(data, region, account):
        name = data.get("cluster") or "default"
        return name if name.startswith("arn:") else f"arn:aws:ecs:{region}:{account}:cluster/{name}"

    def task_arn(service, method, path, headers, body, query_params, region, account):
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        if service == "ecs" and action in DEPLOYMENT_CALLS:
            return (read_object(body).get(DEPLOYMENT_CALLS[action]) or ["*"])[0]
        if service != "ecs" or action not in TASK_CALLS:
            return resource_arn(service, method, path, headers, body, query_params, region, account)
        data = read_object(body)
        task = (data.get("tasks") or [data.get("task")])[0]
        if not task:
            return "*"  # ListTasks
        if task.startswith("arn:"):
            return task
        return cluster(data, region, account).replace(":cluster/", ":task/") + "/" + task

    def with_cluster(service, iam_action, body, params):
        known = context(service, iam_action, body, params)
        if service == "ecs" and iam_action.split(":")[1] in TASK_CALLS:
            known["ecs:cluster"] = cluster(read_object(body), get_region(), get_account_id())
        return known

    from ministack.core.responses import get_account_id, get_region

    actions.extract_resource_arn = task_arn
    actions.request_tag_context = with_cluster


def add_parameter_names(actions):
    """A call about several parameters is judged by their ARNs: here, by the first one's. ministack judges it by *."""
    resource_arn = actions.extract_resource_arn

    def by_name(service, method, path, headers, body, query_params, region, account):
        if service == "ssm" and headers.get("x-amz-target", "").endswith(".GetParameters"):
            names = read_object(body).get("Names") or [""]
            return f"arn:aws:ssm:{region}:{account}:parameter/{names[0].lstrip('/')}"
        return resource_arn(service, method, path, headers, body, query_params, region, account)

    actions.extract_resource_arn = by_name


def add_role_paths(actions, iam):
    """A call about a role is judged by the role's whole ARN. ministack leaves out the path."""
    resource_arn = actions.extract_resource_arn

    def with_path(service, method, path, headers, body, query_params, region, account):
        arn = resource_arn(service, method, path, headers, body, query_params, region, account)
        if service == "iam" and ":role/" in arn:
            role = iam._roles.get(arn.rsplit("/", 1)[1])
            return role["Arn"] if role else arn
        return arn

    actions.extract_resource_arn = with_path


def add_execution_role_ids(runtime, functions, sessions, iam):
    """A function's credentials have the unique ID of its role, and not the role's name instead."""
    credentials = runtime.execution_credentials

    def with_id(config):
        given = credentials(config)
        session = sessions.get(given["AWS_ACCESS_KEY_ID"])
        if session:
            account, role = config["Role"].split(":")[4], config["Role"].rsplit("/", 1)[1]
            session["UserId"] = iam._roles.get_scoped(account, None, role)["RoleId"] + ":" + config["FunctionName"]
        return given

    runtime.execution_credentials = functions.execution_credentials = with_id


def add_secret_references(ssm, secrets):
    """A parameter /aws/reference/secretsmanager/NAME is the secret of that name, for those who may read it.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/integration-ps-secretsmanager.html
    """
    prefix = "/aws/reference/secretsmanager/"
    handle = ssm.handle_request

    async def handle_reference(method, path, headers, body, query_params):
        action, data = headers.get("x-amz-target", ""), read_object(body)
        if action.endswith(".GetParameter") and str(data.get("Name")).startswith(prefix):
            return get(data["Name"], data.get("WithDecryption"), headers, query_params)
        return await handle(method, path, headers, body, query_params)

    def get(name, decrypt, headers, query_params):
        if not decrypt:
            message = "WithDecryption flag must be True for retrieving a Secret Manager secret."
            return error_response_json("ValidationException", message, 400)
        _, secret = secrets._resolve(name.removeprefix(prefix))
        if not secret:
            return error_response_json("ParameterNotFound", f"Secret {name} not found.", 400)
        denied = app._enforce_data_plane(
            "secretsmanager", "secretsmanager:GetSecretValue", headers, query_params, "", resource_arn=secret["ARN"]
        )
        if denied:
            return denied
        status, sent, body = secrets._get_secret_value({"SecretId": secret["ARN"]})
        if status != 200:
            return status, sent, body
        value = json.loads(body)
        parameter = {
            "Name": name,
            "Type": "SecureString",
            "Value": value["SecretString"],
            "Version": 0,
            "SourceResult": body.decode() if isinstance(body, bytes) else body,
            "LastModifiedDate": value["CreatedDate"],
            "ARN": value["ARN"],
        }
        return json_response({"Parameter": parameter})

    from ministack import app
    from ministack.core.responses import error_response_json, json_response

    ssm.handle_request = handle_reference


def add_event_source_permissions(provisioners, evaluator, functions):
    """A function whose role may not read a queue can't have it for an event source, where permissions count."""
    needed = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

    def check(handler, properties):
        def handle(*args):
            mapping = properties(args)
            _, config, name = functions._get_func_record_for_ref(mapping["FunctionName"])
            account, role = config["Role"].split(":")[4], config["Role"].rsplit("/", 1)[1]
            policies = evaluator._gather_role_policies(role, account)
            for action in needed:
                call = evaluator.EvalContext(
                    principal_arn=config["Role"],
                    principal_type="AssumedRole",
                    principal_account=account,
                    action=action,
                    resource_arn=mapping["EventSourceArn"],
                    region=mapping["EventSourceArn"].split(":")[3],
                )
                if evaluator.evaluate(call, policies).decision != "Allow":
                    verb = action.split(":")[1]
                    raise ValueError(f"The function execution role does not have permissions to call {verb} on SQS")
            return handler(*args)

        return handle

    wrap(provisioners, "AWS::Lambda::EventSourceMapping", check)


def assume_role(role_arn, session, service):
    """The credentials that a service of AWS, such as ecs-tasks.amazonaws.com, gets for a role that trusts it."""
    from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
    from ministack.services import iam, sts

    account, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[1]
    role = iam._roles.get_scoped(account, None, name)
    if not role or role["Arn"] != role_arn:
        raise LookupError(f"there is no role {role_arn}")
    trust = role["AssumeRolePolicyDocument"]
    trust = json.loads(trust) if isinstance(trust, str) else trust
    # In a trust policy the resource is the role itself, and not said.
    statements = [{**statement, "Resource": "*"} for statement in trust["Statement"]]
    call = EvalContext(
        principal_arn="",
        principal_type="Service",
        principal_account="",
        action="sts:AssumeRole",
        resource_arn=role_arn,
        region="",
        service_context={"aws:sourceaccount": account},
    )
    if evaluate_resource_policy({"Statement": statements}, call, service=service).decision != "Allow":
        raise PermissionError(f"{service} is not allowed to assume the role {role_arn}")
    key, secret, token = sts._gen_session_access_key(), sts._gen_secret(), sts._gen_session_token()
    expiration = int(time.time()) + ROLE_SESSION
    sts.register_session(key, {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
        "UserId": f"{role['RoleId']}:{session}",
        "SecretAccessKey": secret,
        "SessionToken": token,
        "Expiration": expiration,
        "AccountId": account,
        "PrincipalType": "AssumedRole",
    })
    return {"access_key_id": key, "secret_access_key": secret, "token": token, "expiration": expiration}


class Control:
    """The tests' own entrance beside AWS's API: what only AWS itself may do, and faults.

    POST /_test/events  puts an event on the default bus as it is: source, id and time are not touched.
    POST /_test/sessions  gives a service the credentials of a role that trusts it.
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
            case "POST", "/_test/sessions":
                try:
                    return await reply(send, 200, assume_role(**await read_json(receive)))
                except (LookupError, PermissionError) as refusal:
                    return await reply(send, 403, {"message": str(refusal)})
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


def read_object(body):
    try:
        data = json.loads(body or b"{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


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
    from ministack.core import iam_actions, iam_evaluator, lambda_runtime
    from ministack.services import cloudwatch_logs, ecs, eventbridge, iam, lambda_svc, scheduler, secretsmanager, sqs, ssm, sts
    from ministack.services.cloudformation import changesets, engine, provisioners

    if "ECS_ENDPOINT" in os.environ:
        add_tasks(ecs, os.environ["ECS_ENDPOINT"])
    add_task_permissions(iam_actions)
    add_parameter_names(iam_actions)
    add_role_paths(iam_actions, iam)
    add_execution_role_ids(lambda_runtime, lambda_svc, sts._sessions, iam)
    add_secret_references(ssm, secretsmanager)
    if app.AUTH:
        add_event_source_permissions(provisioners, iam_evaluator, lambda_svc)
    add_task_definitions(provisioners, ecs)
    add_generated_secrets(provisioners)
    add_desired_counts(ecs)
    add_reserved_concurrency(provisioners, lambda_svc)
    add_batch_rule(provisioners)
    add_query_definitions(provisioners, cloudwatch_logs)
    add_macros(provisioners, changesets, engine, lambda_svc)
    add_asynchronous_invocation(eventbridge, lambda_svc)
    add_queue_policies(eventbridge, sqs, iam_evaluator)
    add_quick_answers(scheduler)

    config = Config()
    config.bind = [f"fd://{LISTENER}"]
    config.keep_alive_timeout = 75
    asyncio.run(serve(Control(app.app, eventbridge), config))


if __name__ == "__main__":
    main()
