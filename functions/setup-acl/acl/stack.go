package acl

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Stack is the CloudFormation stack that something in Consul belongs to. A
// stack of the same name that is created anew is the same one.
type Stack struct {
	partition, region, account string
	Name                       string
}

// ParseStack reads a stack's ID: arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/UUID.
func ParseStack(id string) (Stack, error) {
	parsed, err := arn.Parse(id)
	if err == nil {
		parts := strings.Split(parsed.Resource, "/")
		if parsed.Service == "cloudformation" && len(parts) == 3 && parts[0] == "stack" && parts[1] != "" {
			return Stack{parsed.Partition, parsed.Region, parsed.AccountID, parts[1]}, nil
		}
	}
	return Stack{}, fmt.Errorf("read the stack's ID %q: it is no ARN of a CloudFormation stack", id)
}

// mark ends the description of everything that the stack has made.
func (s Stack) mark() string {
	return fmt.Sprintf("Made by the CloudFormation stack arn:%s:cloudformation:%s:%s:stack/%s", s.partition, s.region, s.account, s.Name)
}

// made holds for descriptions of what the stack has made.
func (s Stack) made(description string) bool { return strings.HasSuffix(description, s.mark()) }

// endpoints are the URLs of STS and IAM that Consul has to be told. It finds by
// itself only those under amazonaws.com. In China each Region has an STS of its
// own, and Consul can be told but one.
func (s Stack) endpoints() (sts, iam string) {
	if s.partition != "aws-cn" {
		return "", ""
	}
	return "https://sts." + s.region + ".amazonaws.com.cn", "https://iam.cn-north-1.amazonaws.com.cn"
}
