"""What people look at: self-contained HTML pages, drawn from plain result objects.

``scores`` holds what a result says, ``runs`` what a log says, ``charts`` draws SVG, ``sections`` makes the parts of a
page, ``page`` puts them together, ``html`` has the doors: run_report, test_report, compare_report, analyze_report,
demo_report.
"""
