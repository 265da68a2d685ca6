"""Figures: a table of a run becomes a chart, a chart becomes SVG, PDF or PNG.

`catalogue` says which figures there are; `theme`, `lines` and `marks` draw; `render` writes. Altair and
vl-convert are imported by the functions that draw and render, and by nothing else.
"""
