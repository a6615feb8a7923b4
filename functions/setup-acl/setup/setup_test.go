package setup

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/functions/setup-acl/customresource"
	consulaccess "ecsmesh/shared/access"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

const secretName = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-bootstrap-a1B2c3"

// fakeSecrets are texts by their secrets' ARNs.
type fakeSecrets map[string]string

var _ secrets = fakeSecrets{}

func (f fakeSecrets) GetSecretValue(_ context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	text, ok := f[aws.ToString(in.SecretId)]
	if !ok {
		return nil, &types.ResourceNotFoundException{Message: aws.String("Secrets Manager can't find the specified secret.")}
	}
	return &secretsmanager.GetSecretValueOutput{SecretString: &text}, nil
}

func TestParseToken(t *testing.T) {
	const token = "8f3a3f0e-2f0b-4b7d-9a53-1f0d3c6f7a55"
	for text, want := range map[string]string{
		token:               token,
		"  " + token + "\n": token,
		`{"CreateIndex": 18, "AccessorID": "ab", "SecretID": "` + token + `", "Policies": [{"Name": "global-management"}]}`: token,
	} {
		if got, err := parseToken(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                      "it is empty",
		" \n":                                   "it is empty",
		`{"token": "` + token + `"}`:            `it is JSON without a "SecretID"`,
		`{"SecretID": "` + token:                "it begins as JSON does, and is none",
		`{"SecretID": 7, "a": "` + token + `"}`: "it begins as JSON does, and is none",
		"SecretID:  " + token:                   "it is more than a token",
		token + "\n" + token:                    "it is more than a token",
	} {
		_, err := parseToken(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), token[:8]) {
			t.Errorf("%q: the error tells the token: %v", text, err)
		}
	}
}

// world is a Consul, and a stack's resource in it.
type world struct {
	consul  *consultest.Server
	secrets fakeSecrets
	log     *strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{consul: consultest.StartSecure(t), log: &strings.Builder{}}
	w.secrets = fakeSecrets{secretName: w.consul.Token}
	return w
}

// resource is prepared as for each request.
func (w *world) resource(t *testing.T) *Setup {
	t.Helper()
	settings := consulaccess.Settings{HTTPSSL: true, CACertPEM: w.consul.CA}
	if err := settings.Validate(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(w.log, nil))
	return &Setup{
		Secrets: w.secrets,
		Locate:  func(context.Context) ([]netip.Addr, error) { return []netip.Addr{w.consul.Addr}, nil },
		Consul:  consulaccess.New(settings, aws.Config{}, log),
		Log:     log,
	}
}

// sample is events/setup-acl-create.json, with other properties where given.
func sample(t *testing.T, properties map[string]any) customresource.Request {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "..", "events", "setup-acl-create.json"))
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		StackID            string `json:"StackId"`
		ResourceProperties map[string]any
	}
	if err := json.Unmarshal(content, &event); err != nil {
		t.Fatal(err)
	}
	for name, value := range properties {
		event.ResourceProperties[name] = value
		if value == nil {
			delete(event.ResourceProperties, name)
		}
	}
	text, err := json.Marshal(event.ResourceProperties)
	if err != nil {
		t.Fatal(err)
	}
	return customresource.Request{StackID: event.StackID, Properties: text}
}

func (w *world) methods(t *testing.T) []string {
	t.Helper()
	methods, _, err := w.consul.Client.ACL().AuthMethodList(nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, method := range methods {
		names = append(names, method.Name)
	}
	return names
}

func TestLifeOnConsul(t *testing.T) {
	w := newWorld(t)
	attributes, err := w.resource(t).Put(t.Context(), sample(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"TasksAuthMethod": "iam-ecs-service-token", "FunctionsAuthMethod": "ecsmesh-functions"}, attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ecsmesh-functions", "iam-ecs-service-token"}, w.methods(t)); diff != "" {
		t.Errorf("auth methods (-want +got):\n%s", diff)
	}
	if _, err := w.resource(t).Put(t.Context(), sample(t, map[string]any{"TasksAuthMethod": "tasks", "TaskTokenTtlMinutes": "5"})); err != nil {
		t.Fatal(err)
	}
	method, _, err := w.consul.Client.ACL().AuthMethodRead("tasks", nil)
	if err != nil || method == nil || method.MaxTokenTTL != 5*time.Minute {
		t.Errorf("the auth method for tasks is %+v, %v", method, err)
	}
	note, err := w.resource(t).Delete(t.Context(), sample(t, nil))
	if err != nil || note != "" {
		t.Errorf("deleted: %q, %v", note, err)
	}
	if left := w.methods(t); len(left) > 0 {
		t.Errorf("left are the auth methods %s", left)
	}
	if strings.Contains(w.log.String(), w.consul.Token) {
		t.Errorf("the log has the management token:\n%s", w.log)
	}
}

// What can't get in makes nothing and has a reason, and doesn't keep a stack from
// being deleted.
func TestNoWayIntoConsul(t *testing.T) {
	w := newWorld(t)
	frozen := consultest.StartSecure(t)
	frozen.Freeze()
	for name, test := range map[string]struct {
		properties map[string]any
		change     func(*Setup)
		want       string
		hangs      bool // as long as it may
	}{
		"the secret is gone": {
			properties: map[string]any{"ManagementTokenSecretArn": secretName + "-old"},
			want:       "read the management token: ResourceNotFoundException: Secrets Manager can't find the specified secret.",
		},
		"the secret holds no token": {
			change: func(s *Setup) { s.Secrets = fakeSecrets{secretName: `{"token": "a"}`} },
			want:   "read the management token in " + secretName + `: it is JSON without a "SecretID"`,
		},
		"another Consul's token": {
			change: func(s *Setup) { s.Secrets = fakeSecrets{secretName: frozen.Token} },
			want:   "read Consul's ACLs: ",
		},
		"no servers": {
			change: func(s *Setup) {
				s.Locate = func(context.Context) ([]netip.Addr, error) { return nil, errors.New("ECS knows none") }
			},
			want: "find the Consul servers: ECS knows none",
		},
		"a server that is gone": {
			change: func(s *Setup) {
				s.Locate = func(context.Context) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr("127.255.255.1")}, nil
				}
			},
			want:  "read Consul's ACLs: no Consul server answered in time",
			hangs: true,
		},
		"a server that hangs": {
			change: func(s *Setup) {
				s.Locate = func(context.Context) ([]netip.Addr, error) { return []netip.Addr{frozen.Addr}, nil }
			},
			want:  "read Consul's ACLs: no Consul server answered in time",
			hangs: true,
		},
		"a server of another CA": {
			change: func(s *Setup) {
				s.Consul = consulaccess.New(consulaccess.Settings{HTTPSSL: true, CACertPEM: frozen.CA}, aws.Config{}, s.Log)
			},
			want: "certificate signed by unknown authority",
		},
	} {
		t.Run(name, func(t *testing.T) {
			resource := func() *Setup {
				s := w.resource(t)
				if test.change != nil {
					test.change(s)
				}
				return s
			}
			limit := 30 * time.Second
			if test.hangs {
				limit = 2 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := resource().Put(ctx, sample(t, test.properties))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("put: got %v, want %q", err, test.want)
			}
			ctx, cancel = context.WithTimeout(t.Context(), limit)
			defer cancel()
			note, err := resource().Delete(ctx, sample(t, test.properties))
			if err != nil || !strings.Contains(note, "nothing was removed from Consul: ") || !strings.Contains(note, test.want) {
				t.Errorf("delete: got %q, %v, want a note that says %q", note, err, test.want)
			}
		})
	}
	for _, token := range []string{w.consul.Token, frozen.Token} {
		if strings.Contains(w.log.String(), token) {
			t.Errorf("the log has a management token:\n%s", w.log)
		}
	}
}

// A deletion that has begun and ends half-way can be tried again, so it fails.
func TestDeletionThatFailsOnConsul(t *testing.T) {
	w := newWorld(t)
	if _, err := w.resource(t).Put(t.Context(), sample(t, nil)); err != nil {
		t.Fatal(err)
	}
	policy, _, err := w.consul.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "reads-only", Rules: `acl = "read"`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := w.consul.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.secrets[secretName] = token.SecretID
	if note, err := w.resource(t).Delete(t.Context(), sample(t, nil)); note != "" || err == nil || !strings.Contains(err.Error(), "remove binding rule") {
		t.Errorf("got %q, %v; want an error that says what could not be removed", note, err)
	}
	w.secrets[secretName] = w.consul.Token
	if note, err := w.resource(t).Delete(t.Context(), sample(t, nil)); note != "" || err != nil || len(w.methods(t)) > 0 {
		t.Errorf("again: got %q, %v; left are the auth methods %s", note, err, w.methods(t))
	}
}

// Nobody is asked for what can't be.
func TestFaultyProperties(t *testing.T) {
	for name, test := range map[string]struct {
		properties map[string]any
		want       string
	}{
		"a misspelt one": {map[string]any{"TaskRoles": []string{}}, `unknown field "TaskRoles"`},
		"no list":        {map[string]any{"TaskRoleArns": "arn"}, "read the resource's properties: "},
		"an empty list":  {map[string]any{"TaskRoleArns": []string{}}, "no IAM role of tasks is given"},
		"no number":      {map[string]any{"TaskTokenTtlMinutes": "an hour"}, `TaskTokenTtlMinutes is "an hour", want a number`},
		"none":           {map[string]any{"TaskTokenTtlMinutes": nil}, `TaskTokenTtlMinutes is "", want a number`},
	} {
		_, err := (&Setup{}).Put(t.Context(), sample(t, test.properties))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	request := sample(t, nil)
	request.StackID = "ecsmesh"
	if _, err := (&Setup{}).Put(t.Context(), request); err == nil || !strings.Contains(err.Error(), "no ARN of a CloudFormation stack") {
		t.Errorf("a stack without an ARN: got %v", err)
	}
}

// A stack whose creation failed for them can be deleted all the same.
func TestFaultyPropertiesDoNotStopADeletion(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		properties map[string]any
		want       string // in the note
	}{
		"faulty ones":           {map[string]any{"TaskRoleArns": "arn", "Unknown": "a", "TaskTokenTtlMinutes": "an hour"}, ""},
		"a secret without name": {map[string]any{"ManagementTokenSecretArn": nil}, "nothing was removed from Consul: read the management token"},
		"a secret that is none": {map[string]any{"ManagementTokenSecretArn": []string{"a"}}, "nothing was removed from Consul: read the resource's properties"},
	} {
		note, err := w.resource(t).Delete(t.Context(), sample(t, test.properties))
		if err != nil || !strings.HasPrefix(note, test.want) || (test.want == "") != (note == "") {
			t.Errorf("%s: got %q, %v, want %q", name, note, err, test.want)
		}
	}
}
