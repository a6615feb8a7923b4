package template

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"ecsmesh/e2e/emulator"
	"ecsmesh/initcontainer/publicip"
	"ecsmesh/shared/mesh"
)

// TestOnlyWhoHasAPublicAddressMayAskForIt has a gateway's task ask EC2, which
// verifies its signature, with and without the right to it. The emulator's
// interfaces have no public addresses, so an answer is all that there is.
func TestOnlyWhoHasAPublicAddressMayAskForIt(t *testing.T) {
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	for source, want := range map[string]string{
		"":          "give the task role ec2:DescribeNetworkInterfaces",
		"public-ip": "EC2 does not know the interface yet",
	} {
		stack := "gateway" + source
		_, err := e.Deploy(t.Context(), stack, filepath.Join(root(t), "examples", "gateway.yaml"), nil, map[string]string{
			"Cluster": "mesh", "Subnets": "subnet-1", "SecurityGroups": "sg-1", "InitImage": "ecsmesh-init", "DesiredCount": "0",
			"GatewayKind": "mesh-gateway", "GatewayName": "edge" + source, "AssignPublicIp": "ENABLED", "WanSource": source,
		})
		if err != nil {
			t.Fatal(err)
		}
		role, err := cloudformation.NewFromConfig(e.Config()).DescribeStackResource(t.Context(), &cloudformation.DescribeStackResourceInput{
			StackName: aws.String(stack), LogicalResourceId: aws.String("TaskRole"),
		})
		if err != nil {
			t.Fatal(err)
		}
		credentials, err := e.AssumeRole(t.Context(), emulator.ECSTasks,
			"arn:aws:iam::"+emulator.AccountID+":role/"+aws.ToString(role.StackResourceDetail.PhysicalResourceId), "task")
		if err != nil {
			t.Fatal(err)
		}
		task := mesh.TaskARN{Partition: "aws", Region: emulator.Region, Account: emulator.AccountID, Cluster: "mesh", ID: "a1"}
		_, err = publicip.Find(t.Context(), e.ConfigAs(credentials), task, publicip.Interface{Address: netip.MustParseAddr("10.0.1.5")})
		if err == nil || !strings.Contains(err.Error(), want) || publicip.Permanent(err) != (source == "") {
			t.Errorf("with the source %q: %v", source, err)
		}
	}
}
