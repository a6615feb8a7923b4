package main

import (
	"fmt"
	"slices"
	"strings"

	"ecsmesh/e2e/bench/results"
)

// plot is a picture of some of a benchmark's figures.
type plot struct{ file, title, svg string }

// plots are a benchmark's: the distributions, one for each unit, then the ratios
// or, where there is but one quantity, that.
func (b benchmark) plots() []plot {
	var plots []plot
	sampled := slices.DeleteFunc(slices.Clone(b.figures), func(f results.Figure) bool { return len(f.Samples) == 0 })
	for i, unit := range distinct(sampled, func(f results.Figure) string { return f.Unit }) {
		same := slices.DeleteFunc(slices.Clone(sampled), func(f results.Figure) bool { return f.Unit != unit })
		file := "distribution"
		if i > 0 {
			file = fmt.Sprintf("distribution-%d", i+1)
		}
		title := b.name + ": the share of all that took at most so much"
		plots = append(plots, plot{b.file(file), title, drawDistribution(title, same)})
	}
	ratios := slices.DeleteFunc(slices.Clone(b.figures), func(f results.Figure) bool { return f.Unit != results.Times })
	title := b.name + ": ratios"
	if len(distinct(b.figures, func(f results.Figure) string { return f.Quantity })) == 1 {
		ratios, title = b.figures, b.name+": "+b.figures[0].Quantity
	}
	if len(ratios) > 0 {
		plots = append(plots, plot{b.file("ratios"), title, drawBars(title, ratios)})
	}
	return plots
}

func (b benchmark) file(what string) string { return strings.ToLower(b.name) + "-" + what + ".svg" }

const (
	barHeight  = 14
	barGap     = 5
	groupGap   = 10
	groupTitle = 14
	longest    = 420 // of what stands before bars
)

// column is how wide the names before bars are.
func column(names []string) float64 {
	widestName := 0.0
	for _, name := range names {
		widestName = max(widestName, textWidth(name))
	}
	return min(widestName, longest) + 32
}

// drawBars draws a group of bars for each quantity, a bar for each subject, and
// where its target is. The figures have one unit.
func drawBars(title string, figures []results.Figure) string {
	c := newCanvas(title)
	subjects := distinct(figures, func(f results.Figure) string { return f.Subject })
	left := column(subjects)
	most := 0.0
	for _, f := range figures {
		most = max(most, f.Value, f.Target)
	}
	scale := newAxis(left, most*1.12) // the values stand behind the bars
	groups := distinct(figures, func(f results.Figure) string { return f.Quantity })
	top := c.y
	bottom := top + float64(len(groups))*(groupGap+groupTitle) + float64(len(figures))*(barHeight+barGap) + barGap
	scale.draw(c, top, bottom, figures[0].Unit)
	for _, group := range groups {
		c.y += groupGap + groupTitle
		c.text(left, c.y-2, "strong", group)
		for _, f := range figures {
			if f.Quantity != group {
				continue
			}
			c.y += barGap
			c.text(left-12, c.y+11, "end", shorten(f.Subject))
			series := 0
			if len(groups) > 1 {
				series = slices.Index(subjects, f.Subject)
			}
			c.bar(barClass(f, series), left, c.y, scale.x(f.Value)-left, barHeight)
			if f.Aimed() {
				c.line("mark", scale.x(f.Target), c.y-2, scale.x(f.Target), c.y+barHeight+2)
			}
			c.text(max(scale.x(f.Value), scale.x(f.Target))+6, c.y+11, "", plain(f))
			c.y += barHeight
		}
	}
	c.y = bottom + 20
	return c.svg()
}

func barClass(f results.Figure, series int) string {
	switch {
	case !f.Aimed():
		return fmt.Sprintf("c%d", series%colours)
	case f.Met():
		return "met"
	}
	return "missed"
}

// plain is a value with its target, without Markdown.
func plain(f results.Figure) string { return strings.Trim(cell(f), "*") }

const (
	// overflow is how many times its target a bar can show.
	overflow = 2

	// values is where a column of them begins.
	values = width - 150
)

// drawTargets draws each figure with a target as a share of that.
func drawTargets(figures []results.Figure) string {
	c := newCanvas(fmt.Sprintf("Measured, as a share of what it is to be at most (bars end at %d ×)", overflow))
	aimed := slices.DeleteFunc(slices.Clone(figures), func(f results.Figure) bool { return !f.Aimed() })
	var names []string
	for _, f := range aimed {
		names = append(names, label(f))
	}
	left := column(names)
	scale := axis{left, values - 14, overflow, 0.5}
	top := c.y + 4
	bottom := top + float64(len(aimed))*(barHeight+barGap) + barGap
	bottom += float64(len(byBenchmark(aimed))) * (groupGap + groupTitle)
	scale.draw(c, top, bottom, results.Times)
	for _, benchmark := range byBenchmark(aimed) {
		c.y += groupGap + groupTitle
		c.text(20, c.y, "strong", benchmark.name)
		for _, f := range benchmark.figures {
			c.y += barGap
			c.text(left-12, c.y+11, "end", shorten(label(f)))
			share := shareOfTarget(f)
			c.bar(barClass(f, 0), left, c.y, scale.x(min(share, overflow))-left, barHeight)
			c.text(values, c.y+11, "", plain(f))
			c.y += barHeight
		}
	}
	c.line("rule", scale.x(1), top, scale.x(1), bottom)
	c.y = bottom + 20
	return c.svg()
}

func shareOfTarget(f results.Figure) float64 {
	switch {
	case f.Target != 0:
		return f.Value / f.Target
	case f.Met():
		return 0
	}
	return overflow
}

// shorten keeps a name within its column.
func shorten(name string) string {
	runes := []rune(name)
	if fit := int(longest / textWidth("x")); len(runes) > fit {
		return string(runes[:fit-1]) + "…"
	}
	return name
}
