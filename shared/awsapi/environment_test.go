package awsapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// agent is what gives a container credentials, to who has the token.
func agent(t *testing.T, token string, answer func(http.ResponseWriter)) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != token {
			t.Errorf("the agent was given the token %q", r.Header.Get("Authorization"))
		}
		answer(w)
	}))
	t.Cleanup(server.Close)
	return server
}

func role(w http.ResponseWriter) {
	fmt.Fprintf(w, `{"AccessKeyId": "ROLE", "SecretAccessKey": "s", "Token": "t", "Expiration": %q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

func TestCredentials(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"code": "AccessDenied", "message": "no such task"}`)
	}
	for name, test := range map[string]struct {
		set  []string
		want string // the key's ID, or part of the error
	}{
		"the environment's":   {[]string{"AWS_ACCESS_KEY_ID", "AKID", "AWS_SECRET_ACCESS_KEY", "s", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1"}, "AKID"},
		"half of them":        {[]string{"AWS_ACCESS_KEY_ID", "AKID", "AWS_CONTAINER_CREDENTIALS_FULL_URI", agent(t, "", role).URL}, "ROLE"},
		"the task role's":     {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", agent(t, "", role).URL}, "ROLE"},
		"with a token":        {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", agent(t, "secret", role).URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret"}, "ROLE"},
		"with one in a file":  {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", agent(t, "from a file", role).URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token}, "ROLE"},
		"without that file":   {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:1", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token + "-"}, "no such file"},
		"refused":             {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", agent(t, "", refuses).URL}, "AccessDenied: no such task"},
		"in clear, elsewhere": {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/role"}, `AWS_CONTAINER_CREDENTIALS_FULL_URI is "http://10.0.0.1/role"; want https`},
		"at no URL":           {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "role"}, `AWS_CONTAINER_CREDENTIALS_FULL_URI is "role"`},
	} {
		t.Run(name, func(t *testing.T) {
			none := append([]string{"AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", ""}, test.set...)
			got, err := retrieve(t.Context(), variables(none...))
			if text := fmt.Sprint(got.AccessKeyID, err); !strings.Contains(text, test.want) {
				t.Errorf("got %s, want %s", text, test.want)
			}
		})
	}
}

func retrieve(ctx context.Context, getenv func(string) string) (aws.Credentials, error) {
	sdk, err := FromEnvironment(getenv, "eu-west-1")
	if err != nil {
		return aws.Credentials{}, err
	}
	return Credentials(ctx, sdk)
}

func TestWhereCredentialsMayBe(t *testing.T) {
	for at, want := range map[string]bool{
		ecsAgent + "/v2/credentials/a": true, "http://169.254.170.23/v1/credentials": true, "http://[fd00:ec2::23]/v1/credentials": true,
		"http://localhost:8080/": true, "http://127.1.2.3/": true, "http://[::1]/": true, "https://credentials.example/": true,
		"http://credentials.example/": false, "http://169.254.169.254/": false, "ftp://127.0.0.1/": false, "": false, "://": false,
	} {
		if mayHaveCredentials(at) != want {
			t.Errorf("%q: got %t", at, !want)
		}
	}
}

// TestCredentialsOfTheInstance are those of a task without a role, on EC2.
func TestCredentialsOfTheInstance(t *testing.T) {
	asked := 0
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
			fmt.Fprint(w, "session")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session":
			t.Errorf("%s was asked without a session", r.URL.Path)
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			fmt.Fprint(w, "instance")
		default:
			asked++
			fmt.Fprintf(w, `{"Code": "Success", "AccessKeyId": "INSTANCE", "SecretAccessKey": "s", "Token": "t", "Expiration": %q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}
	}))
	t.Cleanup(metadata.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	sdk, err := FromEnvironment(func(string) string { return "" }, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := Credentials(t.Context(), sdk); err != nil || got.AccessKeyID != "INSTANCE" {
			t.Errorf("got %s, %v", got.AccessKeyID, err)
		}
	}
	if asked != 1 {
		t.Errorf("the instance was asked %d times for credentials that last for an hour", asked)
	}
}
