package mesh

import (
	"fmt"
	"regexp"
)

// consoles are the domains of AWS's console. Other partitions have theirs in
// networks of their own.
//
// Read in the URLs that people quote of their consoles; AWS lists the domains at
// https://docs.aws.amazon.com/awsconsolehelpdocs/latest/gsg/what-is.html only in
// part.
var consoles = map[string]string{
	"aws":        "console.aws.amazon.com",
	"aws-cn":     "console.amazonaws.cn",
	"aws-us-gov": "console.amazonaws-us-gov.com",
}

// ConsoleURL is the task's page in the ECS console; "" where that is not known,
// as of a task whose ARN doesn't name its cluster. ECS shows a task there for
// about an hour after it has stopped.
func (t TaskARN) ConsoleURL() string {
	domain, ok := consoles[t.Partition]
	// An ARN may come from anybody, and people follow the URL.
	if !ok || !isRegion.MatchString(t.Region) || !isCluster.MatchString(t.Cluster) || len(t.Cluster) > maxCluster {
		return ""
	}
	return fmt.Sprintf("https://%s.%s/ecs/v2/clusters/%s/tasks/%s?region=%[1]s", t.Region, domain, t.Cluster, t.ID)
}

// maxCluster bounds the length of a cluster's name. In the expression, it would cost
// more of each program's start than all other packages together.
const maxCluster = 255

var (
	isRegion  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)
	isCluster = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)
