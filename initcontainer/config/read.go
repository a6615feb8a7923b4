package config

import (
	"log/slog"
	"path"
	"strings"
)

func readConfig(root *document, getenv func(string) string) Config {
	readSchema(root)
	cfg := Config{
		Topology:     readTopology(root),
		BootstrapDir: root.text("bootstrapDir", DefaultBootstrapDir),
		LogLevel:     readLogLevel(root),
	}
	cfg.ConsulServers = readConsulServers(root.section("consulServers"), cfg.Topology, getenv)
	if root.has("gateway") && !root.has("service") {
		readGateway(root, &cfg, getenv)
	} else {
		root.refuse("gateway", "a task is a service or a gateway: keep one of them")
		cfg.Service, cfg.Tenancy = readService(root)
		cfg.Proxy = readProxy(root.section("proxy"), cfg, getenv)
		cfg.Service.HealthSyncContainers = readHealthSyncContainers(root, cfg.Service.Checks)
	}
	cfg.ConsulClient = readConsulClient(root, cfg.Topology, cfg.ConsulServers, getenv)
	cfg.Login = readLogin(root, cfg.ConsulServers)
	warnOfPlaintext(root, cfg.ConsulServers, cfg.Login)
	if !path.IsAbs(cfg.BootstrapDir) {
		root.fault("bootstrapDir", show(cfg.BootstrapDir), "want the absolute path at which the shared volume is mounted")
	}
	cfg.BootstrapDir = path.Clean(cfg.BootstrapDir)
	if cfg.Service.Port != 0 && len(cfg.Service.Checks) == 0 && len(cfg.Service.HealthSyncContainers) == 0 {
		cfg.Service.Checks = []Check{defaultCheck(cfg)}
	}
	cfg.TransparentProxy = readTransparentProxy(root, cfg)
	cfg.Dataplane = readDataplane(root, cfg)
	checkPorts(root, cfg)

	root.ignore("controller")
	root.refuseOlder(olderFields)
	root.end()
	return cfg
}

func readLogLevel(root *document) slog.Level {
	levels := map[string]slog.Level{
		"TRACE": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
		"WARN": slog.LevelWarn, "ERROR": slog.LevelError,
	}
	name := root.text("logLevel", "INFO")
	level, ok := levels[strings.ToUpper(name)]
	if !ok {
		root.fault("logLevel", show(name), "want one of TRACE, DEBUG, INFO, WARN, ERROR")
	}
	return level
}
