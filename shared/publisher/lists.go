package publisher

import (
	"context"
	"net/netip"
)

// Lists are the servers twice: as they are published, and as their source has
// them.
type Lists struct {
	Parameter      string // name of the SSM parameter
	Published      []netip.Addr
	PublishedError error // why Published is not known

	Source      string // what knows the servers, in words
	Current     []netip.Addr
	SourceError error // why Current is not known
}

// Lists reads both. It writes nothing.
func (p *Publisher) Lists(ctx context.Context) Lists {
	lists := Lists{Parameter: p.parameter.Name(), Source: p.source.String()}
	lists.Published, lists.PublishedError = p.current(ctx)
	lists.Current, lists.SourceError = p.source.Servers(ctx)
	return lists
}
