package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func at(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func sample() *picture {
	return &picture{
		title:  `Tasks & "servers"`,
		length: at(36),
		milestones: []milestone{
			{at(4.3), "T0", "servers found"}, {at(4.8), "T1", "tasks registered, init containers gone"},
			{at(5.4), "T2", "Envoys up"}, {at(9.8), "T3", "Envoys healthy, applications started"}, {at(33), "", "everything stops"},
		},
		lanes: []lane{
			{name: "parameter", spans: []span{{at(4.3), at(36), published, []string{strings.Repeat("127.0.0.1, ", 40), "4 servers"}}}},
			{name: "web", gap: true, spans: []span{{at(4), at(5), starting, nil}, {at(5), at(33), serving, []string{"serves"}}}},
		},
		requests: []dot{{at: at(15)}, {at: at(15.01), by: 1}, {at: at(15.02), failed: true}},
		zoom: zoom{
			title: "The stop", from: at(14), to: at(16), zero: at(15), rows: []string{"api-1", "api-2"},
			marks: []milestone{{at(15), "", "stop requested"}, {at(15.9), "+0.9 s", "a text for which there is no room on the right"}},
		},
	}
}

func TestPictureIsWellFormed(t *testing.T) {
	var out bytes.Buffer
	if err := sample().writeTo(&out); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(out.Bytes()))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, out.String())
		}
	}
	for text, count := range map[string]int{
		"Tasks &amp; &#34;servers&#34;": 2, // the title, and for screen readers
		"4 servers":                     1, // the label that fits
		"127.0.0.1":                     0, // the one that doesn't
		`class="failed" cx=`:            1,
		`class="r1" cx=`:                1,
		`class="end"><tspan`:            1, // the text that goes to the left
	} {
		if n := strings.Count(out.String(), text); n != count {
			t.Errorf("%q occurs %d times, want %d", text, n, count)
		}
	}
}

func TestMilestonesDoNotOverlap(t *testing.T) {
	p := sample()
	c := &canvas{length: p.length}
	rows := p.milestoneRows(c)
	for i, m := range p.milestones {
		for j := i + 1; j < len(p.milestones); j++ {
			if rows[i] == rows[j] && c.x(m.at)+textWidth(m) > c.x(p.milestones[j].at) {
				t.Errorf("%q and %q share row %d", m.text, p.milestones[j].text, rows[i])
			}
		}
	}
}

func TestPrinterHasNoColoursOutsideOfATerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := newPrinter(file, func(string) string { return "" })
	p.title("A story", "about tasks")
	p.chapter("T0", "servers found")
	p.holds("%d requests", 3)
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsRune(got, '\x1b') || !bytes.Contains(got, []byte("✓ 3 requests")) {
		t.Errorf("printed %q", got)
	}
	p.colour = true
	if painted := p.paint(green, "✓"); painted != "\x1b[32m✓\x1b[0m" {
		t.Errorf("in colour: %q", painted)
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		61400 * time.Microsecond: "61 ms", 999 * time.Millisecond: "999 ms", 2050 * time.Millisecond: "2.0 s", 36400 * time.Millisecond: "36.4 s",
	} {
		if got := brief(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
