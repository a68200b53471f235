"""Plots as SVG, by hand: bars, and curves on logarithmic axes. Readable on a light page and on a dark one."""

import math
from html import escape

# Neither black nor white: of the middle, for both kinds of page.
INK = "#7d8590"
COLOURS = ["#2f81f7", "#e0823d", "#3fb950", "#d2547f", "#a371f7", "#b8a02a", "#39a6a6", "#8a8a8a"]
FONT = "font-family='system-ui, sans-serif'"


class Drawing:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = []

    def text(self, x, y, words, size=12, anchor="start", weight="normal"):
        self.parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{INK}' "
            f"font-weight='{weight}'>{escape(words)}</text>"
        )

    def line(self, x1, y1, x2, y2):
        self.parts.append(
            f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{INK}' stroke-opacity='0.3'/>"
        )

    def box(self, x, y, width, height, colour):
        self.parts.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 1):.1f}' height='{height:.1f}' rx='2' fill='{colour}'/>"
        )

    def curve(self, points, colour):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, y in points:
            self.parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>")

    def __str__(self):
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height:.0f}' "
            f"width='{self.width}' height='{self.height:.0f}' {FONT}>"
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


def number(value):
    """Three digits of it, as people write them."""
    if value == int(value):
        return f"{int(value):,}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, digits) if digits else round(value)
    return f"{rounded:,.{min(digits, 3)}f}"


def bars(title, panels):
    """`panels`: a heading and bars each, a bar being a label, a value and a colour's number."""
    width, label, row, right = 760, 190, 19, 90
    drawing = Drawing(width, 34 + sum(34 + row * len(bars) for _, bars in panels))
    drawing.text(0, 18, title, size=15, weight="bold")
    y = 34
    for heading, rows in panels:
        y += 20
        drawing.text(0, y, heading, size=12, weight="bold")
        y += 8
        most = max((value for _, value, _ in rows), default=0) or 1
        for name, value, colour in rows:
            length = (width - label - right) * value / most
            drawing.text(label - 8, y + 13, name, anchor="end")
            drawing.box(label, y + 3, length, row - 6, COLOURS[colour % len(COLOURS)])
            drawing.text(label + max(length, 1) + 6, y + 13, number(value))
            y += row
        y += 6
    return str(drawing)


def slope(points):
    """Of the line through the logarithms: 0 is flat, 1 grows with x, -1 shrinks with it."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(logs) < 2:
        return None
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else None


def curves(title, x_title, y_title, lines, x_word=number):
    """`lines`: a name, points and a colour's number. Points at x = 0 stand at the left edge."""
    width, height, left, right, top, bottom = 760, 360, 70, 20, 40, 50
    legend = 20 * len(lines)
    drawing = Drawing(width, height + legend)
    drawing.text(0, 18, title, size=15, weight="bold")
    every_x = sorted({x for _, points, _ in lines for x, _ in points})
    every_y = [y for _, points, _ in lines for _, y in points if y > 0]
    if not every_y:
        return str(drawing)
    # What is 0 has no logarithm: half of the least that has.
    least = min((x for x in every_x if x > 0), default=1)
    log_x = lambda x: math.log(x or least / 2)
    low_x, high_x = log_x(every_x[0]), log_x(every_x[-1])
    low_y, high_y = math.floor(math.log10(min(every_y))), math.ceil(math.log10(max(every_y)))
    high_y = max(high_y, low_y + 1)

    def at(x, y):
        across = (log_x(x) - low_x) / ((high_x - low_x) or 1)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    for power in range(low_y, high_y + 1):
        _, y = at(every_x[0], 10**power)
        drawing.line(left, y, width - right, y)
        drawing.text(left - 8, y + 4, number(10**power), anchor="end")
    for x in every_x:
        drawing.text(at(x, 10**low_y)[0], height - bottom + 18, x_word(x), size=11, anchor="middle")
    drawing.text(left, 34, y_title, size=11)
    drawing.text(width - right, height - bottom + 36, x_title, size=11, anchor="end")
    for row, (name, points, colour) in enumerate(lines):
        colour = COLOURS[colour % len(COLOURS)]
        drawing.curve([at(x, y) for x, y in points if y > 0], colour)
        steep = slope(points)
        y = height + 14 + 20 * row
        drawing.box(left, y - 9, 14, 10, colour)
        drawing.text(left + 22, y, name if steep is None else f"{name}: slope {steep:+.2f}")
    return str(drawing)
