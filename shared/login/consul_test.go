package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/emulator"
	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/consul"
)

const (
	anotherAccount = "111122223333"
	serviceTag     = "consul.hashicorp.com.service-name"
	tokenLife      = time.Hour
)

var (
	// tasks logs in with the role's path and tags.
	tasks = Method{AuthMethod: "tasks", IncludeEntity: true, ServerIDHeaderValue: "here", Meta: map[string]string{"task": "0ec5"}}
	// functions logs in with the role's name alone.
	functions = Method{AuthMethod: "functions", ServerIDHeaderValue: "here"}
)

// world is Consul with two auth methods, and AWS with the roles of
// testdata/roles.yaml in two accounts.
type world struct {
	consul *consultest.Server
	aws    *emulator.Emulator
	roles  map[string]string // by the outputs' names
	abroad map[string]string // the same in anotherAccount
}

func newWorld(t *testing.T) world {
	t.Helper()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := world{consul: consultest.StartSecure(t), aws: e, roles: deployRoles(t, e), abroad: deployRoles(t, e.In(anotherAccount))}
	w.createMethods(t, "here")
	return w
}

func deployRoles(t *testing.T, e *emulator.Emulator) map[string]string {
	t.Helper()
	outputs, err := e.Deploy(t.Context(), "roles", "testdata/roles.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

// createMethods makes the auth methods of one cluster, or gives them its ID.
func (w world) createMethods(t *testing.T, serverID string) {
	t.Helper()
	acl := w.consul.Client.ACL()
	paths := []string{"arn:aws:iam::" + emulator.AccountID + ":role/consul-ecs/*", "arn:aws:iam::" + anotherAccount + ":role/consul-ecs/*"}
	for _, method := range []*api.ACLAuthMethod{
		{Name: tasks.AuthMethod, Config: map[string]any{
			"BoundIAMPrincipalARNs": paths, "EnableIAMEntityDetails": true, "IAMEntityTags": []string{serviceTag},
		}},
		{Name: functions.AuthMethod, Config: map[string]any{"BoundIAMPrincipalARNs": []string{w.roles["Function"]}}},
	} {
		method.Type, method.MaxTokenTTL = "aws-iam", tokenLife
		method.Config["ServerIDHeaderValue"] = serverID
		method.Config["STSEndpoint"], method.Config["IAMEndpoint"] = w.aws.URL(), w.aws.URL()
		if _, _, err := acl.AuthMethodCreate(method, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, rule := range []*api.ACLBindingRule{
		{AuthMethod: tasks.AuthMethod, BindName: "${entity_tags." + serviceTag + "}", Selector: `entity_tags["` + serviceTag + `"] != ""`},
		{AuthMethod: functions.AuthMethod, BindName: "${entity_name}"},
	} {
		rule.BindType = api.BindingRuleBindTypeService
		if _, _, err := acl.BindingRuleCreate(rule, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// task is a login of an ECS task with a role.
func (w world) task(t *testing.T, role string) *Login {
	t.Helper()
	return New(w.session(t, emulator.ECSTasks, role), tasks)
}

// session is the configuration of a program that a service runs with a role.
func (w world) session(t *testing.T, service, role string) aws.Config {
	t.Helper()
	credentials, err := w.aws.AssumeRole(t.Context(), service, role, "0ec5")
	if err != nil {
		t.Fatal(err)
	}
	return w.aws.ConfigAs(credentials)
}

func TestRolesThatAreLetIn(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		login   *Login
		service string
	}{
		"a task":                    {w.task(t, w.roles["WebTask"]), "web"},
		"a task of another account": {w.task(t, w.abroad["WebTask"]), "web"},
		"a function":                {New(w.session(t, emulator.Lambda, w.roles["Function"]), functions), "sweep"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			begun := time.Now()
			// The client's token has ended long ago, as that of a task may have.
			given, err := test.login.Login(ctx, w.consul.As(t, "b4a3e5ac-5b23-4b0b-8f2c-0f2e9d3f0000"))
			if err != nil {
				t.Fatal(err)
			}
			if given.Created.Before(begun) || given.Expires.Sub(given.Created) != tokenLife || !given.RenewAt().Equal(given.Created.Add(tokenLife/2)) {
				t.Errorf("the token lives from %s to %s and is to be renewed at %s", given.Created, given.Expires, given.RenewAt())
			}
			self, _, err := w.consul.As(t, given.Secret).ACL().TokenReadSelf(nil)
			if err != nil {
				t.Fatal(err)
			}
			var services []string
			for _, identity := range self.ServiceIdentities {
				services = append(services, identity.ServiceName)
			}
			if diff := cmp.Diff([]string{test.service}, services); diff != "" || self.AccessorID != given.AccessorID {
				t.Errorf("the token of %s, given as of %s, is for (-want +got):\n%s", self.AccessorID, given.AccessorID, diff)
			}
			if test.login.method.Meta != nil && !strings.Contains(self.Description, `{"task":"0ec5"}`) {
				t.Errorf("the token is described as %q", self.Description)
			}
		})
	}
}

func TestRolesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	noEntity, stranger := tasks, functions
	noEntity.IncludeEntity = false
	stranger.AuthMethod = "strangers"
	forged := w.session(t, emulator.ECSTasks, w.roles["WebTask"])
	forged.Credentials = credentials.StaticCredentialsProvider{Value: aws.Credentials{
		AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI", SessionToken: "FwoGZXIvYXdzEXAMPLE",
	}}
	for name, test := range map[string]struct {
		config aws.Config
		method Method
		want   string
	}{
		"a role outside the bound path":       {w.session(t, emulator.ECSTasks, w.roles["OtherTask"]), tasks, "is not trusted"},
		"a role that isn't bound":             {w.session(t, emulator.Lambda, w.roles["OtherFunction"]), functions, "is not trusted"},
		"the bound role's namesake elsewhere": {w.session(t, emulator.Lambda, w.abroad["Function"]), functions, "is not trusted"},
		"a task's role as a function's":       {w.session(t, emulator.ECSTasks, w.roles["WebTask"]), functions, "is not trusted"},
		"a role that no rule gives anything":  {w.session(t, emulator.ECSTasks, w.roles["UntaggedTask"]), tasks, "no binding rule gives this role anything"},
		"a role that may not read itself":     {w.session(t, emulator.ECSTasks, w.roles["BlindTask"]), tasks, "iam:GetRole"},
		"a login without the role's details":  {w.session(t, emulator.ECSTasks, w.roles["WebTask"]), noEntity, `missing header "X-Consul-IAM-GetEntity-Method"`},
		"an auth method that isn't there":     {w.session(t, emulator.Lambda, w.roles["Function"]), stranger, "no such auth method"},
		"credentials of no role":              {w.aws.Config(), functions, "unrecognized arn"},
		"a function's forged credentials":     {forged, functions, "InvalidClientTokenId"},
		"a task's forged credentials":         {forged, tasks, "InvalidClientTokenId"},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := New(test.config, test.method).Login(t.Context(), w.consul.As(t, ""))
			checkRefused(t, token.Secret, err, test.want, retrieve(t, test.config))
		})
	}
}

// TestSignaturesThatAreRefused presents requests of a role that is let in, which
// somebody has kept or changed.
func TestSignaturesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	web, other := w.session(t, emulator.ECSTasks, w.roles["WebTask"]), w.session(t, emulator.ECSTasks, w.roles["OtherTask"])
	sign := func(config aws.Config, method Method, age time.Duration) signedRequest {
		t.Helper()
		s := newSigner(config, method)
		s.now = func() time.Time { return time.Now().Add(-age) }
		credentials, err := awsapi.Credentials(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.sign(t.Context(), credentials)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	elsewhere, nowhere := tasks, tasks
	elsewhere.ServerIDHeaderValue = "there"
	nowhere.ServerIDHeaderValue = ""
	theirs := headers(t, sign(other, tasks, 0))
	for name, test := range map[string]struct {
		signed signedRequest
		want   string // "" is let in
	}{
		"what was signed now":          {sign(web, tasks, 0), ""},
		"what was signed too long ago": {sign(web, tasks, 16*time.Minute), "Signature expired"},
		"another date": {tamper(t, sign(web, tasks, time.Minute), func(h http.Header) {
			h.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
		}), "SignatureDoesNotMatch"},
		"another signature": {tamper(t, sign(web, tasks, 0), func(h http.Header) {
			h.Set("Authorization", h.Get("Authorization")[:len(h.Get("Authorization"))-4]+"0000")
		}), "SignatureDoesNotMatch"},
		"another role": {tamper(t, sign(web, tasks, 0), func(h http.Header) {
			h.Set(entityBodyHeader, strings.Replace(h.Get(entityBodyHeader), "RoleName=web", "RoleName=other", 1))
		}), "SignatureDoesNotMatch"},
		"another role's details":                         {tamper(t, sign(web, tasks, 0), func(h http.Header) { lend(h, theirs) }), "SignatureDoesNotMatch"},
		"another role's details under the own signature": {borrowed(t, web, theirs), "unique id mismatch"},
		"what was signed for another cluster":            {sign(web, elsewhere, 0), `expected "here" but got "there"`},
		"what was signed for no cluster":                 {sign(web, nowhere, 0), "missing header"},
		"another cluster's, relabelled": {tamper(t, sign(web, elsewhere, 0), func(h http.Header) {
			h.Set(serverIDHeader, "here")
		}), "SignatureDoesNotMatch"},
		"no cluster's, labelled": {tamper(t, sign(web, nowhere, 0), func(h http.Header) {
			h.Set(serverIDHeader, "here")
		}), "header wasn't signed"},
	} {
		t.Run(name, func(t *testing.T) {
			bearer, err := json.Marshal(test.signed)
			if err != nil {
				t.Fatal(err)
			}
			token, err := tasks.present(t.Context(), w.consul.As(t, ""), bearer)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			secret := ""
			if token != nil {
				secret = token.SecretID
			}
			if err == nil {
				t.Fatal("was let in")
			}
			used := retrieve(t, web)
			checkRefused(t, secret, refusal(err, used), test.want, used)
		})
	}
}

// TestWhatSTSAnswersConsul has Consul ask an STS in each kind of trouble.
func TestWhatSTSAnswersConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	answer := func(status int, code string) string {
		sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/xml")
			w.WriteHeader(status)
			// AWS repeats what it has checked the signature of.
			fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>", code)
			for name := range r.Header {
				_ = xml.EscapeText(w, []byte(name+":"+r.Header.Get(name)+"\n"))
			}
			fmt.Fprint(w, "</Message></Error></ErrorResponse>")
		}))
		t.Cleanup(sts.Close)
		return sts.URL
	}
	for name, test := range map[string]struct {
		sts, iam string // "" is AWS's own, which nothing may reach
		code     int
		want     string
	}{
		"it is unreachable":         {gone.URL, gone.URL, http.StatusInternalServerError, "connection refused"},
		"it is busy":                {answer(503, "ServiceUnavailable"), gone.URL, http.StatusInternalServerError, "giving up"},
		"it throttles":              {answer(400, "Throttling"), gone.URL, http.StatusInternalServerError, "Throttling"},
		"it refuses":                {answer(403, "SignatureDoesNotMatch"), gone.URL, http.StatusForbidden, "(session token)"},
		"it can't read the request": {answer(400, "IncompleteSignature"), gone.URL, http.StatusForbidden, "IncompleteSignature"},
		"it is not where AWS's is":  {"", gone.URL, http.StatusForbidden, "invalid STS hostname"},
		"IAM is not where AWS's is": {gone.URL, "", http.StatusForbidden, "invalid IAM hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			method := &api.ACLAuthMethod{Name: strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", ""), Type: "aws-iam", Config: map[string]any{
				"BoundIAMPrincipalARNs": []string{"arn:aws:iam::" + anotherAccount + ":role/*"}, "EnableIAMEntityDetails": true,
				"STSEndpoint": test.sts, "IAMEndpoint": test.iam,
			}}
			if _, _, err := server.Client.ACL().AuthMethodCreate(method, nil); err != nil {
				t.Fatal(err)
			}
			login := New(aws.Config{Region: "eu-west-1", Credentials: fixed, BaseEndpoint: &gone.URL}, Method{AuthMethod: method.Name, IncludeEntity: true})
			login.signer.caller = arn.ARN{Partition: "aws", Service: "sts", Resource: "assumed-role/web/session"}
			_, err := login.Login(t.Context(), server.As(t, ""))
			var got api.StatusError
			if !errors.As(err, &got) || got.Code != test.code || !strings.Contains(got.Body, test.want) {
				t.Errorf("%v, want %d and %q", err, test.code, test.want)
			}
			if consul.Permanent(err) != (test.code == http.StatusForbidden) {
				t.Errorf("%v: permanent is %t", err, consul.Permanent(err))
			}
			checkKeepsSecrets(t, err, fixed.Value)
		})
	}
}

// borrowed is signed with one role's credentials, and has in it what another
// role signed to be asked for by IAM.
func borrowed(t *testing.T, borrower aws.Config, lent http.Header) signedRequest {
	t.Helper()
	s := newSigner(borrower, tasks)
	credentials, err := awsapi.Credentials(t.Context(), borrower)
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.stsEndpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request, err := s.request(at, whoAmI)
	if err != nil {
		t.Fatal(err)
	}
	lend(request.Header, lent)
	if err := awsapi.Sign(t.Context(), credentials, request, whoAmI, "sts", at.region, s.now()); err != nil {
		t.Fatal(err)
	}
	signed, err := encoded(request, whoAmI)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// lend gives a request to STS what is in another for IAM.
func lend(to, from http.Header) {
	for _, name := range []string{entityMethodHeader, entityURLHeader, entityHeadersHeader, entityBodyHeader} {
		to.Set(name, from.Get(name))
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	anonymous := w.consul.As(t, "")
	given, err := w.task(t, w.roles["WebTask"]).Login(t.Context(), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"for the first time", "again"} {
		if err := Logout(t.Context(), anonymous, given.Secret); err != nil {
			t.Errorf("log out %s: %v", when, err)
		}
	}
	if _, _, err := w.consul.As(t, given.Secret).ACL().TokenReadSelf(nil); !unknown(err) {
		t.Errorf("the token after Logout: %v, want ACL not found", err)
	}
	// Consul lets only those end their token that a login gave it to.
	if err := Logout(t.Context(), anonymous, w.consul.Token); err == nil {
		t.Error("the management token was ended")
	}
}

// checkRefused wants no token, a refusal that nobody tries again, and nothing of
// the credentials in it.
func checkRefused(t *testing.T, secret string, err error, want string, used aws.Credentials) {
	t.Helper()
	var refused api.StatusError
	switch {
	case secret != "":
		t.Error("got a token")
	case !errors.As(err, &refused) || refused.Code != http.StatusForbidden || !consul.Permanent(err) || !strings.Contains(err.Error(), want):
		t.Errorf("%v, want 403 and %q", err, want)
	case consul.TokenUnknown(err):
		t.Errorf("%v: is taken for the end of a token", err)
	}
	checkKeepsSecrets(t, err, used)
}

func checkKeepsSecrets(t *testing.T, err error, used aws.Credentials) {
	t.Helper()
	for _, secret := range []string{used.SecretAccessKey, used.SessionToken} {
		if err != nil && secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

// retrieve has the credentials of a configuration.
func retrieve(t *testing.T, config aws.Config) aws.Credentials {
	t.Helper()
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return credentials
}

func headers(t *testing.T, signed signedRequest) http.Header {
	t.Helper()
	var h http.Header
	if err := json.NewDecoder(base64.NewDecoder(base64.StdEncoding, strings.NewReader(signed.Headers))).Decode(&h); err != nil {
		t.Fatal(err)
	}
	return h
}

// tamper changes headers of a request after it was signed, among them the whole
// request to IAM.
func tamper(t *testing.T, signed signedRequest, change func(http.Header)) signedRequest {
	t.Helper()
	h := headers(t, signed)
	change(h)
	changed, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	signed.Headers = base64.StdEncoding.EncodeToString(changed)
	return signed
}
