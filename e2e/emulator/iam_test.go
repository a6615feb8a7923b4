package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

// TestARoleMayWhatItsPolicySays makes calls with the credentials of the role
// task, whose policy is in testdata/roles.yaml.
func TestARoleMayWhatItsPolicySays(t *testing.T) {
	endpoint, calls := tasksOf(t)
	e := startEnforcing(t, endpoint)
	roles := deployRoles(t, e)
	config := e.ConfigAs(assumeAsTask(t, e, roles["TaskRole"]))
	tasks := ecs.NewFromConfig(config)

	list := func(cluster string) func() error {
		return func() error {
			_, err := tasks.ListTasks(t.Context(), &ecs.ListTasksInput{Cluster: aws.String(cluster)})
			return err
		}
	}
	describe := func(cluster, task string) func() error {
		return func() error {
			_, err := tasks.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: []string{task}})
			return err
		}
	}
	stop := func() error {
		_, err := tasks.StopTask(t.Context(), &ecs.StopTaskInput{Cluster: aws.String("mesh"), Task: aws.String("1")})
		return err
	}
	read := func(name string) func() error {
		return func() error {
			_, err := ssm.NewFromConfig(config).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name), WithDecryption: aws.Bool(true)})
			return err
		}
	}
	readAll := func(name string) func() error {
		return func() error {
			_, err := ssm.NewFromConfig(config).GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{name}})
			return err
		}
	}
	role := func(name string) func() error {
		return func() error {
			return query(t, config, "iam", url.Values{"Action": {"GetRole"}, "RoleName": {name}}, &struct{}{})
		}
	}
	const cluster, task = "arn:aws:ecs:us-east-1:000000000000:cluster/", "arn:aws:ecs:us-east-1:000000000000:task/"
	for name, test := range map[string]struct {
		call func() error
		want string // the error's code
	}{
		"list the tasks of its cluster":             {list("mesh"), ""},
		"list the tasks of its cluster by ARN":      {list(cluster + "mesh"), ""},
		"list the tasks of another cluster":         {list("consul"), "AccessDeniedException"},
		"list the tasks of another cluster by ARN":  {list(cluster + "consul"), "AccessDeniedException"},
		"describe a task of its cluster":            {describe("mesh", "1"), ""},
		"describe a task of its cluster by ARN":     {describe(cluster+"mesh", task+"mesh/1"), ""},
		"describe a task of another cluster":        {describe("consul", "1"), "AccessDeniedException"},
		"describe a task of another cluster by ARN": {describe("mesh", task+"consul/1"), "AccessDeniedException"},
		"stop a task":                                    {stop, "AccessDeniedException"},
		"read a parameter":                               {read("/open"), ""},
		"read another parameter":                         {read("/closed"), "AccessDeniedException"},
		"read several parameters":                        {readAll("/open"), ""},
		"read several others":                            {readAll("/closed"), "AccessDeniedException"},
		"read a secret by its parameter":                 {read("/aws/reference/secretsmanager/open"), ""},
		"read another secret by a parameter it may read": {read("/aws/reference/secretsmanager/closed"), "AccessDeniedException"},
		"read a secret that isn't there":                 {read("/aws/reference/secretsmanager/missing"), "ParameterNotFound"},
		"read its role":                                  {role("task"), ""},
		"read another role":                              {role("queueless"), "AccessDenied"},
	} {
		if got := code(test.call()); got != test.want {
			t.Errorf("%s: the answer is %q, want %q", name, got, test.want)
		}
	}
	if diff := cmp.Diff([]string{"DescribeTasks", "ListTasks"}, calls()); diff != "" {
		t.Errorf("calls that were handed on (-want +got):\n%s", diff)
	}
}

func TestASignatureHasToBeGood(t *testing.T) {
	e := startEnforcing(t, ecsEndpoint)
	roles := deployRoles(t, e)
	good := assumeAsTask(t, e, roles["TaskRole"])
	identify := func(c aws.Credentials) (string, error) {
		out, err := sts.NewFromConfig(e.ConfigAs(c)).GetCallerIdentity(t.Context(), nil)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.Arn), nil
	}
	if got, err := identify(good); err != nil || got != "arn:aws:sts::000000000000:assumed-role/task/session" {
		t.Errorf("the caller is %q, %v", got, err)
	}
	other, foreign, lone := good, good, good
	other.SecretAccessKey += "x"
	foreign.SessionToken += "x"
	lone.SessionToken = ""
	for name, test := range map[string]struct {
		credentials aws.Credentials
		want        string
	}{
		"another secret":   {other, "SignatureDoesNotMatch"},
		"another token":    {foreign, "InvalidClientTokenId"},
		"no token":         {lone, "InvalidClientTokenId"},
		"a key nobody has": {aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}, "InvalidClientTokenId"},
	} {
		if _, err := identify(test.credentials); code(err) != test.want {
			t.Errorf("%s: the answer is %v, want %s", name, err, test.want)
		}
	}
}

func TestOnlyATrustedServiceAssumesARole(t *testing.T) {
	e := startEnforcing(t, ecsEndpoint)
	roles := deployRoles(t, e)
	for name, test := range map[string]struct{ service, role, want string }{
		"a service that it doesn't trust": {Lambda, roles["TaskRole"], "is not allowed to assume"},
		"another path":                    {ECSTasks, strings.Replace(roles["TaskRole"], "/tasks/", "/", 1), "there is no role"},
	} {
		if _, err := e.AssumeRole(t.Context(), test.service, test.role, "session"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	elsewhere := deployRoles(t, e.In("111122223333"))
	given := assumeAsTask(t, e, elsewhere["TaskRole"])
	out, err := sts.NewFromConfig(e.ConfigAs(given)).GetCallerIdentity(t.Context(), nil)
	if err != nil || aws.ToString(out.Account) != "111122223333" {
		t.Errorf("the role's account is %v, %v", out, err)
	}
}

func TestIAMAnswersAsAWSDoes(t *testing.T) {
	e := startEnforcing(t, ecsEndpoint)
	roles := deployRoles(t, e)
	given := assumeAsTask(t, e, roles["TaskRole"])
	type tag struct{ Key, Value string }
	var role struct {
		ID   string `xml:"GetRoleResult>Role>RoleId"`
		ARN  string `xml:"GetRoleResult>Role>Arn"`
		Path string `xml:"GetRoleResult>Role>Path"`
		Tags []tag  `xml:"GetRoleResult>Role>Tags>member"`
	}
	if err := query(t, e.ConfigAs(given), "iam", url.Values{"Action": {"GetRole"}, "RoleName": {"task"}}, &role); err != nil {
		t.Fatal(err)
	}
	if role.ARN != roles["TaskRole"] || role.Path != "/tasks/" || !slices.Contains(role.Tags, tag{"service", "web"}) {
		t.Errorf("the role is %+v", role)
	}
	var caller struct {
		UserID string `xml:"GetCallerIdentityResult>UserId"`
	}
	if err := query(t, e.ConfigAs(given), "sts", url.Values{"Action": {"GetCallerIdentity"}}, &caller); err != nil {
		t.Fatal(err)
	}
	if want := role.ID + ":session"; caller.UserID != want {
		t.Errorf("the caller's ID is %s, want %s", caller.UserID, want)
	}
}

func TestAFunctionsCredentialsAreItsRoles(t *testing.T) {
	e := startEnforcing(t, ecsEndpoint)
	records, _ := deployStack(t, e)
	put(t, e, `{"id": "any", "source": "aws.ecs", "detail": {"desiredStatus": "STOPPED"}}`)
	got := awaitRecord(t, records.queue, func(record) bool { return true })
	out, err := sts.NewFromConfig(e.ConfigAs(got.Credentials)).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if caller := aws.ToString(out.Arn); !strings.HasPrefix(caller, "arn:aws:sts::000000000000:assumed-role/") {
		t.Errorf("the function is %s", caller)
	}
	// A role's unique ID begins like this, which no role's name here does.
	if id := aws.ToString(out.UserId); !strings.HasPrefix(id, "AROA") {
		t.Errorf("the function's ID is %s, want its role's in front", id)
	}
}

func TestAGeneratedSecretHasNoPunctuation(t *testing.T) {
	e := start(t)
	deployRoles(t, e)
	out, err := secretsmanager.NewFromConfig(e.Config()).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("made-up")})
	if err != nil {
		t.Fatal(err)
	}
	if secret := aws.ToString(out.SecretString); !regexp.MustCompile(`^[A-Za-z0-9]{400}$`).MatchString(secret) {
		t.Errorf("it is %q", secret)
	}
}

func TestASecretIsReadAsAParameter(t *testing.T) {
	e := start(t)
	roles := deployRoles(t, e)
	api := ssm.NewFromConfig(e.Config())
	in := &ssm.GetParameterInput{Name: aws.String("/aws/reference/secretsmanager/open")}
	if _, err := api.GetParameter(t.Context(), in); code(err) != "ValidationException" {
		t.Errorf("without decryption: %v, want ValidationException", err)
	}
	in.WithDecryption = aws.Bool(true)
	out, err := api.GetParameter(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"name": aws.ToString(out.Parameter.Name), "value": aws.ToString(out.Parameter.Value),
		"type": string(out.Parameter.Type), "ARN": aws.ToString(out.Parameter.ARN),
	}
	want := map[string]string{"name": "/aws/reference/secretsmanager/open", "value": "disclosed", "type": "SecureString", "ARN": roles["OpenSecret"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameter (-want +got):\n%s", diff)
	}
}

func TestAFunctionNeedsItsQueuesPermissions(t *testing.T) {
	e := startEnforcing(t, ecsEndpoint)
	roles := deployRoles(t, e)
	template := filepath.Join(t.TempDir(), "template.yaml")
	body := `
Transform: AWS::Serverless-2016-10-31
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Reader:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Handler: bootstrap
      CodeUri: .
      Role: ` + roles["QueuelessRole"] + `
      Events: {Queue: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn}}}
`
	if err := os.WriteFile(template, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := e.Deploy(t.Context(), "reader", template, map[string]string{"Reader": t.TempDir()}, nil)
	if err == nil || !strings.Contains(err.Error(), "does not have permissions to call ReceiveMessage on SQS") {
		t.Errorf("the error is %v, want it to name the permission", err)
	}
}

// tasksOf answers calls about tasks as the ECS that runs them, all alike, and
// has the names of those that came.
func tasksOf(t *testing.T) (url string, calls func() []string) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		seen[action] = true
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(maps.Keys(seen))
	}
}

func deployRoles(t *testing.T, e *Emulator) map[string]string {
	t.Helper()
	outputs, err := e.Deploy(t.Context(), "roles", "testdata/roles.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

func assumeAsTask(t *testing.T, e *Emulator, role string) aws.Credentials {
	t.Helper()
	given, err := e.AssumeRole(t.Context(), ECSTasks, role, "session")
	if err != nil {
		t.Fatal(err)
	}
	return given
}

// query makes a call of IAM's or STS's and reads the XML of its answer, which is
// an error unless it is labelled as AWS labels it.
func query(t *testing.T, config aws.Config, service string, parameters url.Values, out any) error {
	t.Helper()
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body := parameters.Encode()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *config.BaseEndpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, request, hex.EncodeToString(hash[:]), service, Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if label := response.Header.Get("Content-Type"); label != "text/xml" {
		t.Errorf("the answer is labelled %q, want text/xml", label)
	}
	if response.StatusCode == http.StatusOK {
		return xml.NewDecoder(response.Body).Decode(out)
	}
	var refusal struct {
		Code string `xml:"Error>Code"`
	}
	if err := xml.NewDecoder(response.Body).Decode(&refusal); err != nil {
		t.Fatal(err)
	}
	return &smithy.GenericAPIError{Code: refusal.Code}
}

// code is that of an error of the API, and "" of none.
func code(err error) string {
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return refused.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
