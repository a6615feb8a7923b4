// Command floor does for a task what `ecsmesh-init register` does and thinks
// nothing of it: it makes the same requests, one after the other, and leaves the
// same files, with nothing but Go's standard library. So it is what a task's
// start costs at least.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"ecsmesh/e2e/bench/script"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: floor REQUESTS FILES VOLUME")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run makes the requests that are in a file, and copies a folder to the volume.
func run(requests, files, volume string) error {
	content, err := os.ReadFile(requests)
	if err != nil {
		return err
	}
	var all []script.Request
	if err := json.Unmarshal(content, &all); err != nil {
		return fmt.Errorf("read %s: %w", requests, err)
	}
	at := map[string]string{
		script.Metadata: os.Getenv("ECS_CONTAINER_METADATA_URI_V4"),
		script.SSM:      os.Getenv("AWS_ENDPOINT_URL"),
	}
	for _, request := range all {
		answer, err := ask(at[request.To], request)
		if err != nil {
			return err
		}
		if request.To == script.SSM {
			var found struct{ Parameter struct{ Value string } }
			if err := json.Unmarshal(answer, &found); err != nil {
				return fmt.Errorf("read SSM's answer: %w", err)
			}
			at[script.Consul] = "http://" + found.Parameter.Value + ":8500"
		}
	}
	return os.CopyFS(volume, os.DirFS(files))
}

func ask(at string, request script.Request) ([]byte, error) {
	sent, err := http.NewRequest(request.Method, at+request.Path, strings.NewReader(request.Body))
	if err != nil {
		return nil, err
	}
	if request.To == script.SSM {
		sent.Header.Set("X-Amz-Target", "AmazonSSM.GetParameter")
	}
	response, err := http.DefaultClient.Do(sent)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", request.Method, sent.URL, response.Status)
	}
	return answer, err
}
