package main

import (
	"strings"
	"testing"
)

func TestTheLogLevel(t *testing.T) {
	for level, want := range map[string]bool{"INFO": true, "trace": true, "WARN": false, "ERROR": false} {
		w := newWorld(t)
		w.env["ECSMESH_CONFIG"] = strings.Replace(w.env["ECSMESH_CONFIG"], "{", `{"logLevel": "`+level+`", `, 1)
		if code, log := w.register(t); code != 0 || strings.Contains(log, "level=INFO msg=registered") != want {
			t.Errorf("%s: exit %d:\n%s", level, code, log)
		}
	}
}
