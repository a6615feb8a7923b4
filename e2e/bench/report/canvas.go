package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the plots, in their own units.
const (
	width = 860
	right = 30
)

// colour is a class of shapes or text with its colour on light pages and on
// dark ones.
type colour struct{ selector, property, light, dark string }

var palette = []colour{
	{".paper", "fill", "#ffffff", "#14171f"},
	{"text", "fill", "#1f2430", "#e8ebf2"},
	{".mark", "stroke", "#1f2430", "#e8ebf2"},
	{".soft", "fill", "#667085", "#98a2b3"},
	{".grid", "stroke", "#e7eaf0", "#272c38"},
	{".rule", "stroke", "#667085", "#98a2b3"},
	{".met", "fill", "#2f9e6e", "#2b9465"},
	{".missed", "fill", "#d92d20", "#f97066"},
	{".c0", "fill", "#2f5fd0", "#84a9ff"},
	{".c1", "fill", "#e2703a", "#ef8f57"},
	{".c2", "fill", "#1795ad", "#35b5cb"},
	{".c3", "fill", "#8a63d2", "#a98bea"},
	{".c4", "fill", "#2f9e6e", "#45b586"},
	{".c5", "fill", "#b0447e", "#dd7fb0"},
	{".l0", "stroke", "#2f5fd0", "#84a9ff"},
	{".l1", "stroke", "#e2703a", "#ef8f57"},
	{".l2", "stroke", "#1795ad", "#35b5cb"},
	{".l3", "stroke", "#8a63d2", "#a98bea"},
	{".l4", "stroke", "#2f9e6e", "#45b586"},
	{".l5", "stroke", "#b0447e", "#dd7fb0"},
}

// colours is how many series can be told apart.
const colours = 6

// style is the plots' style sheet. It has no variables, which some viewers of
// SVG files don't know.
func style() string {
	var light, dark strings.Builder
	for _, c := range palette {
		fmt.Fprintf(&light, "%s { %s: %s }\n", c.selector, c.property, c.light)
		fmt.Fprintf(&dark, "  %s { %s: %s }\n", c.selector, c.property, c.dark)
	}
	return `text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
` + light.String() + `@media (prefers-color-scheme: dark) {
` + dark.String() + `}
.title { font-size: 15px; font-weight: 650 }
.strong { font-weight: 650 }
.end { text-anchor: end }
.mid { text-anchor: middle }
.rule { stroke-dasharray: 3 3 }
.mark { stroke-width: 2 }
.curve { fill: none; stroke-width: 2 }
`
}

// canvas places things one below the other.
type canvas struct {
	b     strings.Builder
	title string
	y     float64
}

func newCanvas(title string) *canvas {
	c := &canvas{title: title, y: 28}
	c.text(20, c.y, "title", title)
	c.y += 22
	return c
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

func (c *canvas) text(x, y float64, class, text string) {
	c.add(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, html.EscapeString(text))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.add(`<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, y1, x2, y2)
}

func (c *canvas) bar(class string, x, y, w, h float64) {
	c.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"/>`, class, x, y, math.Max(w, 1), h)
}

// svg is the plot. It stands alone: without scripts, fonts or images of others,
// for light and dark pages.
func (c *canvas) svg() string {
	height := c.y + 16
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" role="img" aria-label="%s">
<style>
%s</style>
<rect class="paper" width="100%%" height="100%%"/>
%s</svg>
`, width, height, width, height, html.EscapeString(c.title), style(), c.b.String())
}

// textWidth is about how wide a text is.
func textWidth(text string) float64 { return 6.4 * float64(len([]rune(text))) }

// axis is a scale from 0 on.
type axis struct {
	from, to float64 // where 0 is, and the most
	most     float64
	step     float64 // between ticks
}

// newAxis goes to the end of the plot. It has room for a value, and about six ticks.
func newAxis(from, value float64) axis {
	if value <= 0 {
		value = 1
	}
	power := math.Pow(10, math.Floor(math.Log10(value/6)))
	step := power * 10
	for _, times := range []float64{1, 2, 5} {
		if value/(power*times) <= 7 {
			step = power * times
			break
		}
	}
	return axis{from, width - right, math.Ceil(value/step) * step, step}
}

func (a axis) x(value float64) float64 { return a.from + value/a.most*(a.to-a.from) }

// draw draws the ticks between two heights, and their numbers below.
func (a axis) draw(c *canvas, top, bottom float64, unit string) {
	for i := 0; float64(i)*a.step <= a.most*1.001; i++ {
		value := float64(i) * a.step
		c.line("grid", a.x(value), top, a.x(value), bottom)
		c.text(a.x(value), bottom+16, "soft mid", quantity(value, unit))
	}
}
