package register

import (
	"context"
	"net/netip"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/publicip"
)

// withPublicAddress is the configuration with the public address of a gateway
// that is to be known by it, again while EC2 doesn't say it.
func (s *session) withPublicAddress(ctx context.Context) (config.Config, error) {
	cfg := s.Config
	if cfg.Gateway == nil || cfg.Gateway.WAN.Source != config.PublicIP {
		return cfg, nil
	}
	var public netip.Addr
	err := again(ctx, slowly(), publicip.Permanent, func(ctx context.Context) (err error) {
		attempt, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		public, err = publicip.Find(attempt, s.sdk, s.task.ARN, publicip.Interface{Address: s.address, MAC: s.task.MAC(s.address)})
		return err
	}, func(err error) { s.Log.Info("waiting for the public address", "because", err) })
	if err != nil {
		return config.Config{}, err
	}
	s.Log.Info("found the public address", "address", public)
	gateway := *cfg.Gateway
	gateway.WAN.Address = public.String()
	cfg.Gateway = &gateway
	return cfg, nil
}
