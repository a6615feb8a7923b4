package mesh_test

import (
	"testing"

	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
)

const id = "f9811b73ac5d1a8db842634fc0f871e0"

func TestParseTaskARN(t *testing.T) {
	for arn, want := range map[string]struct {
		task    mesh.TaskARN
		cluster string
	}{
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/" + id: {
			mesh.TaskARN{Partition: "aws", Region: "eu-west-1", Account: "123456789012", Cluster: "apps", ID: id},
			"arn:aws:ecs:eu-west-1:123456789012:cluster/apps",
		},
		"arn:aws-cn:ecs:cn-north-1:123456789012:task/a_B-9/" + id: {
			mesh.TaskARN{Partition: "aws-cn", Region: "cn-north-1", Account: "123456789012", Cluster: "a_B-9", ID: id},
			"arn:aws-cn:ecs:cn-north-1:123456789012:cluster/a_B-9",
		},
		"arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/c13b4cb4-0f1f-4fe4-a297-1f76ae5a47ad": {
			mesh.TaskARN{Partition: "aws-us-gov", Region: "us-gov-west-1", Account: "123456789012", ID: "c13b4cb4-0f1f-4fe4-a297-1f76ae5a47ad"},
			"",
		},
	} {
		got, err := mesh.ParseTaskARN(arn)
		if err != nil {
			t.Errorf("%s: %v", arn, err)
		}
		if diff := cmp.Diff(want.task, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", arn, diff)
		}
		if got.ClusterARN() != want.cluster {
			t.Errorf("%s: its cluster is %q, want %q", arn, got.ClusterARN(), want.cluster)
		}
	}
}

func TestParseTaskARNRefusesWhatIsNoTask(t *testing.T) {
	for _, arn := range []string{
		"",
		id,
		"task/apps/" + id,
		"arn:aws:ecs:eu-west-1:123456789012",
		"arn:aws:ecs:eu-west-1:123456789012:cluster/apps",
		"arn:aws:ecs:eu-west-1:123456789012:service/apps/" + id,
		"arn:aws:ec2:eu-west-1:123456789012:task/apps/" + id,
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/",
		"arn:aws:ecs:eu-west-1:123456789012:task/",
		"arn:aws:ecs:eu-west-1:123456789012:task",
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/" + id + "/more",
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/" + `1" or Node != "`,
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/../" + id,
		"arn:aws:ecs:eu-west-1:123456789012:task/apps/ä",
	} {
		if got, err := mesh.ParseTaskARN(arn); err == nil {
			t.Errorf("%q: got %+v, want an error", arn, got)
		}
	}
}

func TestNames(t *testing.T) {
	service := mesh.ServiceID("api", id)
	proxy := mesh.ProxyID(service)
	got := []string{mesh.NodeName(id), service, proxy, mesh.ProxyService("api"), mesh.CheckID(service, "http"), mesh.EnvoyCheckID(proxy)}
	want := []string{"ecs-" + id, "api-" + id, "api-" + id + "-sidecar-proxy", "api-sidecar-proxy", "api-" + id + "-http", "api-" + id + "-sidecar-proxy-envoy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
