package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// tryWithStolenToken does with web's token what is not web's.
func (s *story) tryWithStolenToken(ctx context.Context) error {
	s.chapter("", "somebody has stolen web-1's ACL token")
	token, err := s.lab.Token(s.web.task)
	if err != nil {
		return err
	}
	thief, err := s.lab.ConsulAs(token)
	if err != nil {
		return err
	}
	query, write := (&api.QueryOptions{}).WithContext(ctx), (&api.WriteOptions{}).WithContext(ctx)
	for _, attempt := range []struct {
		what string
		try  func() error
	}{
		{"register as payments", func() error {
			_, err := thief.Catalog().Register(&api.CatalogRegistration{
				Node: "ecs-thief", Address: "10.0.0.1", Service: &api.AgentService{Service: "payments"},
			}, write)
			return err
		}},
		{"let everybody call api", func() error {
			_, _, err := thief.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
				Kind: api.ServiceIntentions, Name: "api", Sources: []*api.SourceIntention{{Name: "*", Action: api.IntentionActionAllow}},
			}, write)
			return err
		}},
		{"read a key", func() error { _, _, err := thief.KV().Get("any", query); return err }},
		{"make tokens", func() error { _, _, err := thief.ACL().TokenCreate(&api.ACLToken{}, write); return err }},
	} {
		var refused api.StatusError
		err := attempt.try()
		if err == nil {
			return fmt.Errorf("with web's token one can %s", attempt.what)
		}
		if !errors.As(err, &refused) || refused.Code != http.StatusForbidden {
			return fmt.Errorf("%s with web's token: %w", attempt.what, err)
		}
		s.out.line("%-24s refused", attempt.what)
	}
	s.out.holds("it is good for web alone, and for an hour")
	return nil
}

// revokeTokens takes the tasks' tokens away while requests flow.
func (s *story) revokeTokens(ctx context.Context) error {
	s.chapter("", "every task's ACL token is revoked")
	tasks := []ecs.Task{s.web.task, s.apis[1].task}
	before := map[string]string{}
	for _, task := range tasks {
		token, err := s.lab.Token(task)
		if err != nil {
			return err
		}
		before[task.TaskARN] = token
		if err := s.lab.Revoke(ctx, task); err != nil {
			return err
		}
	}
	revoked := time.Now()
	err := lab.Await(ctx, "other tokens", func(context.Context) error {
		for _, task := range tasks {
			if token, err := s.lab.Token(task); err != nil || token == before[task.TaskARN] {
				return errors.Join(err, fmt.Errorf("%s has the one from before", task.Summary()))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.out.line("%8s  the tasks' health checks have logged in again, and their Envoys have new tokens", after(revoked, time.Now()))
	if err := pause(ctx, afterwards); err != nil {
		return err
	}
	requests := s.load.Requests()
	if err := noFailures(requests); err != nil {
		return err
	}
	s.out.holds("%d requests so far, 0 failed", len(requests))
	return nil
}
