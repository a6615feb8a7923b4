package taskmeta

import (
	"testing"

	"ecsmesh/shared/mesh"
)

func FuzzParse(f *testing.F) {
	const arn = `"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/0a"`
	for _, body := range []string{
		answer, answer[:100], `{}`, `null`, `[]`, ``, `{"TaskARN": 1}`,
		`{` + arn + `}`, `{` + arn + `, "Containers": null}`, `{` + arn + `, "Containers": [null, {"Networks": [null]}]}`,
		`{` + arn + `, "DesiredStatus": "STOPPED", "Containers": [{"Name": "app", "Health": {"status": "UNHEALTHY"}}]}`,
		`{` + arn + `, "Containers": [{"Health": null, "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": []}]}]}`,
		`{` + arn + `, "Containers": [{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [""]}]}]}`,
		`{` + arn + `, "Containers": [{"Networks": [{"NetworkMode": "awsvpc", "IPv6Addresses": ["fe80::1%eth0", "2001:db8::1"]}]}]}`,
		`{` + arn + `, "Containers": [{"Networks": [{"NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"]}, {"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.5"]}]}]}`,
		`{"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/0a", "Cluster": "default"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := Parse(body)
		if err != nil {
			return
		}
		if arn, err := mesh.ParseTaskARN(task.TaskARN); err != nil || arn != task.ARN {
			t.Errorf("the task's ARN is %q, and was read as %+v", task.TaskARN, task.ARN)
		}
		addr, err := task.Address()
		if addr.IsValid() == (err != nil) {
			t.Errorf("the address is %v, the error %v", addr, err)
		}
		if err == nil && !hasNetwork(task, "awsvpc") {
			t.Errorf("the address is %v although no network is the task's own", addr)
		}
		if task.Stopping() && task.DesiredStatus == "RUNNING" {
			t.Error("a task that is to run is stopping")
		}
		if task.ARN.Cluster != "" && task.ClusterARN() == "" {
			t.Error("the cluster is not known")
		}
	})
}

func hasNetwork(task Task, mode string) bool {
	for _, container := range task.Containers {
		for _, network := range container.Networks {
			if network.NetworkMode == mode {
				return true
			}
		}
	}
	return false
}
