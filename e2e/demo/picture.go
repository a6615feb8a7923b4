package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"
)

// picture is the story as lanes over time. It stands alone: an SVG without
// scripts, fonts or images of others, for light and dark pages.
type picture struct {
	title, subtitle string
	length          time.Duration
	milestones      []milestone
	lanes           []lane
	requests        []dot // all of them
	zoom            zoom
}

// milestone is a chapter of the story.
type milestone struct {
	at         time.Duration
	name, text string
}

// lane is one line of the picture: what a task, or the parameter, was when.
type lane struct {
	name  string
	spans []span
	gap   bool // some room above: another group begins
}

// span is a stretch of a lane in one phase.
type span struct {
	from, to time.Duration
	phase    phase
	labels   []string // the first one that fits is shown
}

// phase names a colour of the picture, and says what it means.
type phase struct{ class, meaning string }

var (
	starting  = phase{"starting", "starting"}
	proxying  = phase{"proxying", "Envoy up, application not yet"}
	warming   = phase{"warming", "application started"}
	serving   = phase{"serving", "passing"}
	leaving   = phase{"leaving", "draining, stopping"}
	published = phase{"published", ""}
)

// dot is a request.
type dot struct {
	at     time.Duration // its end
	by     int           // which of the instances answered, from 0
	failed bool
}

// zoom is the time around the stop of one task, request by request.
type zoom struct {
	title    string
	from, to time.Duration
	zero     time.Duration // the stop
	rows     []string      // the instances
	marks    []milestone
}

// Measures of the picture, in its own units.
const (
	width      = 1240
	left       = 150 // of the plot; names are before it
	right      = 40
	laneHeight = 22
	laneGap    = 8
	groupGap   = 14
	chartRoom  = 64
	zoomRow    = 30
)

// colour is a class of shapes or text with its colour on light pages and on
// dark ones.
type colour struct{ selector, property, light, dark string }

var palette = []colour{
	{".paper", "fill", "#ffffff", "#14171f"},
	{"text", "fill", "#1f2430", "#e8ebf2"},
	{"text", "stroke", "#ffffff", "#14171f"}, // keeps lines out of letters
	{".soft", "fill", "#667085", "#98a2b3"},
	{".milestone", "fill", "#2f5fd0", "#84a9ff"},
	{".grid", "stroke", "#e7eaf0", "#272c38"},
	{".rule", "stroke", "#98a2b3", "#667085"},
	{".starting", "fill", "#c6ccd8", "#4a5265"},
	{".proxying", "fill", "#9db8f2", "#38559e"},
	{".warming", "fill", "#5f8ff0", "#4d7fe6"},
	{".serving", "fill", "#2f9e6e", "#2b9465"},
	{".leaving", "fill", "#dd9d30", "#c98d22"},
	{".published", "fill", "#8a63d2", "#8a66d6"},
	{".r0", "fill", "#e2703a", "#ef8f57"},
	{".r1", "fill", "#1795ad", "#35b5cb"},
	{".failed", "fill", "#d92d20", "#f97066"},
}

// style is the picture's style sheet. It has no variables, which some viewers
// of SVG files don't know.
func style() string {
	var light, dark strings.Builder
	for _, c := range palette {
		fmt.Fprintf(&light, "%s { %s: %s }\n", c.selector, c.property, c.light)
		fmt.Fprintf(&dark, "  %s { %s: %s }\n", c.selector, c.property, c.dark)
	}
	return `text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; paint-order: stroke; stroke-width: 3px }
` + light.String() + `@media (prefers-color-scheme: dark) {
` + dark.String() + `}
.title { font-size: 20px; font-weight: 650 }
.small { font-size: 11px }
.strong, .milestone { font-weight: 650 }
.end { text-anchor: end }
.mid { text-anchor: middle }
.inside { font-size: 11px; fill: #ffffff; stroke: none }
.rule { stroke-dasharray: 2 3 }
`
}

// canvas places things one below the other.
type canvas struct {
	b      strings.Builder
	y      float64
	length time.Duration
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

func (c *canvas) text(x, y float64, class, text string) {
	c.add(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, html.EscapeString(text))
}

func (c *canvas) milestone(x, y float64, class string, m milestone) {
	text := html.EscapeString(m.text)
	if m.name != "" {
		text = `<tspan class="milestone">` + html.EscapeString(m.name) + `</tspan> ` + text
	}
	c.add(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, text)
}

// x is where a moment of the story is.
func (c *canvas) x(at time.Duration) float64 {
	return left + float64(at)/float64(c.length)*(width-left-right)
}

// writeTo draws the picture.
func (p *picture) writeTo(w io.Writer) error {
	c := &canvas{length: p.length}
	c.y = 44
	c.text(left, c.y, "title", p.title)
	c.y += 22
	c.text(left, c.y, "soft", p.subtitle)
	c.y += 26
	p.drawStory(c)
	p.drawLegend(c)
	p.drawZoom(c)
	height := c.y + 24
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" role="img" aria-label="%s">
<style>
%s</style>
<rect class="paper" width="100%%" height="100%%"/>
%s</svg>
`, width, height, width, height, html.EscapeString(p.title), style(), c.b.String())
	return err
}

// drawStory draws the milestones, the lanes, the requests and the time.
func (p *picture) drawStory(c *canvas) {
	rows := p.milestoneRows(c)
	top := c.y
	deepest := 0
	for _, row := range rows {
		deepest = max(deepest, row)
	}
	labels := top + float64(deepest+1)*18
	bottom := labels + 10 + p.lanesHeight() + groupGap + chartRoom

	step := tickStep(p.length)
	for at := time.Duration(0); at <= p.length; at += step {
		c.add(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, c.x(at), c.x(at), labels+6, bottom)
		c.text(c.x(at), bottom+18, "soft small mid", fmt.Sprintf("%.0f s", at.Seconds()))
	}
	for i, m := range p.milestones {
		c.add(`<line class="rule" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, c.x(m.at), c.x(m.at), top+float64(rows[i])*18+2, bottom)
	}
	for i, m := range p.milestones {
		x, y := c.x(m.at), top+float64(rows[i])*18+12
		if c.turned(m) {
			c.milestone(x-4, y, "end", m)
			continue
		}
		c.milestone(x+4, y, "", m)
	}
	c.y = labels + 10
	for _, l := range p.lanes {
		if l.gap {
			c.y += groupGap
		}
		c.drawLane(l)
	}
	c.y += groupGap
	p.drawRequests(c)
	c.y += 26
}

// milestoneRows puts each milestone's text into a row where nothing is in its
// way, so that those close together stand above each other.
func (p *picture) milestoneRows(c *canvas) []int {
	rows := make([]int, len(p.milestones))
	for i := len(p.milestones) - 1; i >= 0; i-- {
		for taken := true; taken; {
			taken = false
			for j := i + 1; j < len(p.milestones); j++ {
				if rows[j] == rows[i] && c.textEnd(p.milestones[i]) > c.textStart(p.milestones[j]) {
					rows[i]++
					taken = true
					break
				}
			}
		}
	}
	// Earlier ones are higher, so that no text crosses a later one's line.
	deepest := 0
	for _, r := range rows {
		deepest = max(deepest, r)
	}
	for i := range rows {
		rows[i] = deepest - rows[i]
	}
	return rows
}

// turned tells whether a milestone's text stands before its line, since it
// would leave the picture after it.
func (c *canvas) turned(m milestone) bool { return c.x(m.at)+textWidth(m) > width }

func (c *canvas) textStart(m milestone) float64 {
	if c.turned(m) {
		return c.x(m.at) - textWidth(m)
	}
	return c.x(m.at)
}

func (c *canvas) textEnd(m milestone) float64 { return c.textStart(m) + textWidth(m) }

func textWidth(m milestone) float64 { return 6.6*float64(len(m.name)+1+len(m.text)) + 10 }

func (p *picture) lanesHeight() float64 {
	height := 0.0
	for _, l := range p.lanes {
		height += laneHeight + laneGap
		if l.gap {
			height += groupGap
		}
	}
	return height
}

func (c *canvas) drawLane(l lane) {
	c.add(`<text x="%d" y="%.1f" class="end strong">%s</text>`, left-12, c.y+15, html.EscapeString(l.name))
	for _, s := range l.spans {
		x, w := c.x(s.from), math.Max(c.x(s.to)-c.x(s.from), 1)
		c.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d" rx="3"/>`, s.phase.class, x, c.y, w, laneHeight)
		for _, label := range s.labels {
			if w > 6.4*float64(len(label))+10 {
				c.text(x+8, c.y+15, "inside", label)
				break
			}
		}
	}
	c.y += laneHeight + laneGap
}

// drawRequests draws how many requests each instance answered, ten times a
// second.
func (p *picture) drawRequests(c *canvas) {
	const bin = 100 * time.Millisecond
	bins := map[time.Duration][3]int{}
	most := 1
	for _, r := range p.requests {
		kind := r.by
		if r.failed {
			kind = 2
		}
		counts := bins[r.at/bin]
		counts[kind]++
		bins[r.at/bin] = counts
		most = max(most, counts[0]+counts[1]+counts[2])
	}
	c.add(`<text x="%d" y="%.1f" class="end strong">requests</text>`, left-12, c.y+18)
	c.add(`<text x="%d" y="%.1f" class="end soft small">per 0.1 s, by the</text>`, left-12, c.y+34)
	c.add(`<text x="%d" y="%.1f" class="end soft small">task that answered</text>`, left-12, c.y+48)
	w := c.x(bin) - c.x(0)
	for i := time.Duration(0); i <= p.length/bin; i++ {
		base := c.y + chartRoom
		for kind, class := range []string{"r0", "r1", "failed"} {
			h := float64(bins[i][kind]) / float64(most) * (chartRoom - 4)
			if h > 0 {
				base -= h
				c.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, class, c.x(i*bin), base, math.Max(w-0.6, 0.6), h)
			}
		}
	}
	c.y += chartRoom
}

func (p *picture) drawLegend(c *canvas) {
	c.y += 8
	x := float64(left)
	entry := func(class, text string) {
		c.add(`<rect class="%s" x="%.1f" y="%.1f" width="12" height="12" rx="3"/>`, class, x, c.y)
		c.text(x+18, c.y+10, "soft small", text)
		x += 18 + 6.0*float64(len(text)) + 22
	}
	for _, phase := range []phase{starting, proxying, warming, serving, leaving} {
		entry(phase.class, phase.meaning)
	}
	for i, row := range p.zoom.rows {
		entry(fmt.Sprintf("r%d", i), "answered by "+row)
	}
	entry("failed", "failed")
	c.y += 20
}

// drawZoom draws each request around the stop as a dot.
func (p *picture) drawZoom(c *canvas) {
	z := p.zoom
	c.y += 34
	c.text(left, c.y, "strong", z.title)
	c.y += 16
	at := func(d time.Duration) float64 {
		return left + float64(d-z.from)/float64(z.to-z.from)*(width-left-right)
	}
	top := c.y
	labels := top + float64(len(z.marks))*18
	bottom := labels + float64(len(z.rows))*zoomRow + 8
	for d := z.zero - (z.zero-z.from)/(500*time.Millisecond)*(500*time.Millisecond); d <= z.to; d += 500 * time.Millisecond {
		c.add(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, at(d), at(d), labels, bottom)
		label := "stop"
		if d != z.zero {
			label = fmt.Sprintf("%+.1f s", (d - z.zero).Seconds())
		}
		c.text(at(d), bottom+18, "soft small mid", label)
	}
	// Later ones are lower, and every text is above the lines.
	for i, m := range z.marks {
		c.add(`<line class="rule" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, at(m.at), at(m.at), top+float64(i)*18+2, bottom)
	}
	for i, m := range z.marks {
		y := top + float64(i)*18 + 12
		if room := width - right - at(m.at); room < textWidth(m) {
			c.milestone(at(m.at)-4, y, "end", m)
			continue
		}
		c.milestone(at(m.at)+4, y, "", m)
	}
	for i, row := range z.rows {
		c.add(`<text x="%d" y="%.1f" class="end strong">%s</text>`, left-12, labels+float64(i)*zoomRow+zoomRow/2+8, html.EscapeString(row))
	}
	for i, r := range p.requests {
		if r.at < z.from || r.at > z.to {
			continue
		}
		class := fmt.Sprintf("r%d", r.by)
		if r.failed {
			class = "failed"
		}
		// Neighbours stand a little apart, so that each can be seen.
		y := labels + float64(r.by)*zoomRow + zoomRow/2 + 4 + float64(i%3-1)*5
		c.add(`<circle class="%s" cx="%.1f" cy="%.1f" r="2.2"/>`, class, at(r.at), y)
	}
	c.y = bottom + 18
}

// tickStep is a round step of time for about ten ticks.
func tickStep(length time.Duration) time.Duration {
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second} {
		if length/step <= 12 {
			return step
		}
	}
	return 20 * time.Second
}
