package main

import "os"

func expand(path, mesh string) ([]byte, error) { return os.ReadFile(path) }
