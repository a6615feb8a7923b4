package main

import (
	"fmt"
	"slices"
	"strings"

	"ecsmesh/e2e/bench/results"
)

const (
	curveLeft   = 60
	curveHeight = 220

	// legendLetters is how many of them surely fit beside a mark.
	legendLetters = 105
)

// drawDistribution draws for each figure which share of its samples is at most
// how much. The figures have one unit.
func drawDistribution(title string, figures []results.Figure) string {
	c := newCanvas(title)
	most := 0.0
	for _, f := range figures {
		most = max(most, slices.Max(f.Samples))
	}
	scale := newAxis(curveLeft, most)
	top := c.y + 6
	bottom := top + curveHeight
	scale.draw(c, top, bottom, figures[0].Unit)
	y := func(share float64) float64 { return bottom - share*curveHeight }
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 0.95, 1} {
		c.line("grid", curveLeft, y(share), width-right, y(share))
		if share != 1 { // it would stand in the way of 95 %
			c.text(curveLeft-8, y(share)+4, "soft end", fmt.Sprintf("%.0f %%", share*100))
		}
	}
	c.y = bottom + 30
	for i, f := range figures {
		c.add(`<path class="curve l%d" d="%s"/>`, i%colours, steps(f.Samples, scale, y))
		c.bar(fmt.Sprintf("c%d", i%colours), curveLeft, c.y, 12, 12)
		values := fmt.Sprintf("half at most %s, 95 %% at most %s",
			quantity(results.Quantile(f.Samples, 0.5), f.Unit), quantity(results.Quantile(f.Samples, 0.95), f.Unit))
		legend := []string{label(f) + ": " + values}
		if len(legend[0]) > legendLetters {
			legend = []string{label(f) + ":", values}
		}
		for _, text := range legend {
			c.text(curveLeft+20, c.y+11, "", text)
			c.y += 20
		}
	}
	return c.svg()
}

// steps is the path that goes up at each sample.
func steps(samples []float64, scale axis, y func(float64) float64) string {
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1f", scale.x(0), y(0))
	sorted := slices.Sorted(slices.Values(samples))
	for i, sample := range sorted {
		fmt.Fprintf(&path, "H%.1fV%.1f", scale.x(sample), y(float64(i+1)/float64(len(sorted))))
	}
	return path.String()
}
