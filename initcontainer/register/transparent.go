package register

import (
	"context"
	"net/netip"

	"ecsmesh/initcontainer/redirect"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

// transparent makes sure that the task's traffic can be redirected, where that
// is wanted, and goes on as Envoy's user. It returns what does it, in the end:
// from then on, everybody else's traffic needs an Envoy that runs.
func (r Registrar) transparent(ctx context.Context, task taskmeta.Task, address netip.Addr) (finish func(context.Context) error, err error) {
	if r.Config.TransparentProxy == nil {
		return func(context.Context) error { return nil }, nil
	}
	if err := redirect.Ready(ctx, *r.Config.TransparentProxy, task.LaunchType, address); err != nil {
		return nil, err
	}
	user := r.Config.Proxy.UID
	if user < 0 {
		user = volume.EnvoyUser
	}
	// It is root's, but where the image declares it.
	if err := volume.Volume(r.Config.BootstrapDir).GiveTo(user); err != nil {
		return nil, err
	}
	back, err := redirect.As(user)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := back(); err != nil {
			return err
		}
		return redirect.Redirection{
			TransparentProxy: *r.Config.TransparentProxy,
			Address:          address,
			EnvoyUser:        user,
			Proxy:            r.Config.Proxy,
			Client:           r.Config.ConsulClient,
		}.Apply(ctx)
	}, nil
}
