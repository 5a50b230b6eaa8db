"""What people look at: self-contained HTML pages and charts, drawn from plain result objects.

``scores`` holds test results, ``comparison`` two of them; ``run_report``, ``result_report``,
``compare_report`` and ``analyze_report`` put them on pages; ``page`` renders templates and line charts.
"""

__all__: list[str] = []
