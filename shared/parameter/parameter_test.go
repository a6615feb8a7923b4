package parameter

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
)

// ssm is a store whose SSM answers that, and what it was asked last.
func ssm(t *testing.T, status int, answer string) (store *Store, asked map[string]any) {
	t.Helper()
	asked = map[string]any{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		asked["operation"] = r.Header.Get("X-Amz-Target")
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return NewStore(aws.Config{
		BaseEndpoint: &server.URL, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", ""),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}), asked
}

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		status    int
		answer    string
		want      string // the value, or part of the error
		permanent bool
	}{
		"a value":   {200, `{"Parameter": {"Name": "/a", "Type": "SecureString", "Value": " secret \n", "Version": 3}}`, "secret", false},
		"empty":     {200, `{"Parameter": {"Value": " \n"}}`, "read SSM parameter /a: it is empty", true},
		"missing":   {400, `{"__type": "ParameterNotFound"}`, "read SSM parameter /a: there is no such parameter: SSM answered HTTP status 400 ParameterNotFound", true},
		"no right":  {400, `{"__type": "AccessDeniedException", "message": "not authorized to perform: ssm:GetParameter"}`, "ssm:GetParameter", true},
		"throttled": {400, `{"__type": "ThrottlingException"}`, "ThrottlingException", false},
		"a proxy's": {200, `<html>`, "not JSON", false},
	} {
		t.Run(name, func(t *testing.T) {
			store, asked := ssm(t, test.status, test.answer)
			got, err := Read(t.Context(), store, "/a")
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) || Permanent(err) != test.permanent {
				t.Errorf("got %q, permanent %t, want %q", got, Permanent(err), test.want)
			}
			if errors.Is(err, ErrNotFound) != (name == "missing") {
				t.Errorf("%v: missing?", err)
			}
			if diff := cmp.Diff(map[string]any{"operation": "AmazonSSM.GetParameter", "Name": "/a", "WithDecryption": true}, asked); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPutList(t *testing.T) {
	store, asked := ssm(t, 200, `{"Tier": "Standard", "Version": 1}`)
	if err := store.PutList(t.Context(), "/a", "1,2", "two"); err != nil {
		t.Error(err)
	}
	want := map[string]any{"operation": "AmazonSSM.PutParameter", "Name": "/a", "Value": "1,2", "Type": "StringList", "Overwrite": true, "Description": "two"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	store, _ = ssm(t, 400, `{"__type": "TooManyUpdates"}`)
	if err := store.PutList(t.Context(), "/a", "1,2", "two"); err == nil || !strings.Contains(err.Error(), "TooManyUpdates") {
		t.Error(err)
	}
}
