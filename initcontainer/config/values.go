package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// pattern is compiled when it is first used: most runs of the program are checks,
// which read no configuration.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

func (d *document) hostPort(name, value string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || !isPort(port) {
		d.fault(name, show(value), "want host:port, such as 127.0.0.1:8080")
	}
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= 65535
}

func (d *document) duration(name string, standard, most time.Duration) time.Duration {
	text := d.text(name, "")
	if text == "" {
		return standard
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration <= 0 || duration > most {
		d.fault(name, show(text), fmt.Sprintf("want a duration such as 500ms or 2s, up to %s", most))
		return standard
	}
	return duration
}

func (d *document) ipAddress(name, value string) {
	if _, err := netip.ParseAddr(value); err != nil {
		d.fault(name, show(value), "want an IP address, such as 127.0.0.1")
	}
}
