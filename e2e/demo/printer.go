package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// printer writes the story to a terminal, or without colours to anything
// else.
type printer struct {
	w      io.Writer
	colour bool
	start  time.Time
}

// The few colours, as ANSI codes.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// newPrinter follows NO_COLOR (no-color.org) and TERM=dumb.
func newPrinter(f *os.File, getenv func(string) string) *printer {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &printer{w: f, colour: terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb", start: time.Now()}
}

func (p *printer) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// title opens the story.
func (p *printer) title(title string, lines ...string) {
	fmt.Fprintf(p.w, "\n  %s\n", p.paint(bold, title))
	for _, line := range lines {
		fmt.Fprintf(p.w, "  %s\n", p.paint(dim, line))
	}
}

// chapter begins a step: its time, its short name, and what it is about.
func (p *printer) chapter(name, about string) {
	fmt.Fprintf(p.w, "\n  %s  %s  %s\n", p.paint(dim, p.elapsed()), p.paint(bold+";"+cyan, fmt.Sprintf("%-2s", name)), p.paint(bold, about))
}

// gutter is the width of what stands before a chapter's text.
var gutter = strings.Repeat(" ", len("  00.0 s  T0  "))

// line is something that happened in a chapter.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.w, "%s%s\n", gutter, fmt.Sprintf(format, args...))
}

// aside explains what is going on while nothing happens.
func (p *printer) aside(text string) { p.line("%s", p.paint(dim, text)) }

// holds is a claim that was checked.
func (p *printer) holds(format string, args ...any) {
	p.line("%s %s", p.paint(green, "✓"), fmt.Sprintf(format, args...))
}

// warns is something that was found and is for the reader to mend.
func (p *printer) warns(format string, args ...any) {
	p.line("%s %s", p.paint(yellow, "!"), fmt.Sprintf(format, args...))
}

// failure ends the story.
func (p *printer) failure(err error) {
	fmt.Fprintf(p.w, "\n  %s  %s  %s\n", p.paint(dim, p.elapsed()), p.paint(bold+";"+red, "✗ "), err)
}

// note stands outside of the story.
func (p *printer) note(lines ...string) {
	fmt.Fprintf(p.w, "\n  %s\n\n", strings.Join(lines, "\n  "))
}

func (p *printer) elapsed() string { return fmt.Sprintf("%4.1f s", time.Since(p.start).Seconds()) }

// brief writes a duration as a reader wants it: 61 ms, 2.4 s.
func brief(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
