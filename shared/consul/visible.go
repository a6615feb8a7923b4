package consul

import (
	"errors"

	"github.com/hashicorp/consul/api"
)

// ErrHidden is returned where Consul has left something out of an answer.
var ErrHidden = errors.New("part of it is hidden by Consul's ACLs; the token needs node:read and service:read of all that is asked for")

// Complete returns ErrHidden where Consul has left out of an answer what the
// request's token may not read: a part would pass for the whole. Consul doesn't
// say so to one who has no token at all.
func Complete(meta *api.QueryMeta) error {
	if meta.ResultsFilteredByACLs {
		return ErrHidden
	}
	return nil
}
