package register

import (
	"encoding/json"
	"testing"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
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
