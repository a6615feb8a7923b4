package register

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/login"
	"ecsmesh/shared/mesh"
)

// TestTokensAreNotTakenForThoseOfConsulECS has a token's description say which
// task it is for. The controller of consul-ecs reads descriptions, too: it
// deletes the tokens of tasks that it doesn't find, which are all with both a
// task and a cluster under its names. Where both are in one mesh, a live task of
// ours must not be among them.
func TestTokensAreNotTakenForThoseOfConsulECS(t *testing.T) {
	arn, err := mesh.ParseTaskARN("arn:aws:ecs:eu-west-1:123456789012:task/prod/0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7")
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{"team": "shop"}
	registrar := Registrar{Config: config.Config{Login: &login.Method{Meta: users}}}
	meta := registrar.tokens(taskmeta.Task{ARN: arn}).Login.Meta
	text, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct {
		Task    string `json:"consul.hashicorp.com/task-id"`
		Cluster string `json:"consul.hashicorp.com/cluster"`
	}
	if err := json.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	if theirs.Task != arn.ID || theirs.Cluster != "" {
		t.Errorf("consul-ecs reads %+v in %s", theirs, text)
	}
	if meta["team"] != "shop" || meta["ecsmesh-cluster-arn"] != arn.ClusterARN() || len(users) != 1 {
		t.Errorf("a token's description says %v, and the user's is %v now", meta, users)
	}
}

// TestRequestsWithSecretsHaveAFileOfTheirOwn leaves nothing secret in what every
// user in the task may read, nor in Consul.
func TestRequestsWithSecretsHaveAFileOfTheirOwn(t *testing.T) {
	for _, check := range []string{
		`"http": "http://127.0.0.1/", "header": {"Authorization": ["s3cret"]}`,
		`"http": "http://127.0.0.1/", "method": "POST", "body": "s3cret"`,
		`"http": "http://me:s3cret@127.0.0.1/"`,
		`"http": "http://me:s3cret@127.0.0.1/?token=s3cret"`,
	} {
		document := `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 80, "checks": [{"name": "a", ` + check + `}]}}`
		cfg, err := config.Read(func(name string) string { return map[string]string{config.Variable: document}[name] })
		if err != nil {
			t.Fatal(err)
		}
		cfg.Proxy.UID = os.Geteuid()
		shared := volume.Volume(t.TempDir())
		if err := shared.Prepare(); err != nil {
			t.Fatal(err)
		}
		open, private, err := (&session{Registrar: Registrar{Config: cfg}}).writeRequests(shared)
		if err != nil || !private || strings.Contains(fmt.Sprint(open), "s3cret") {
			t.Errorf("of %s everybody may read %+v; private: %t, %v", check, open, private, err)
		}
		if whole, err := os.ReadFile(shared.Requests()); err != nil || !strings.Contains(string(whole), "s3cret") {
			t.Errorf("of %s Envoy's user may read %s, %v", check, whole, err)
		}
		registered, err := registration.New(cfg, taskmeta.Task{Family: "api"}, netip.MustParseAddr("10.0.1.5"), time.Now())
		if text, _ := json.Marshal(registered); err != nil || strings.Contains(string(text), "s3cret") {
			t.Errorf("of %s Consul has %s, %v", check, text, err)
		}
	}
}
