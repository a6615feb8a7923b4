// Package script is what a program asks of others, written down so that another
// can ask the same.
package script

// Who is asked.
const (
	Metadata = "metadata" // ECS's task metadata endpoint
	SSM      = "SSM"
	Consul   = "Consul"
)

// Request is one request over HTTP.
type Request struct {
	To     string
	Method string
	Path   string // with the query, below the address of whom it is to
	Body   string
}

// Kind is how the request is counted.
func (r Request) Kind() string {
	if r.To == Consul && r.Method != "GET" {
		return "Consul writes"
	}
	return r.To + " reads"
}

// Kinds are those that Kind tells apart.
var Kinds = []string{Metadata + " reads", SSM + " reads", Consul + " writes", Consul + " reads"}
