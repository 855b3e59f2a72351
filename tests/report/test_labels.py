"""Names of points: none lies over another, a mark, or a bar."""

from __future__ import annotations

import random
from itertools import combinations

from menard_unlearn.report.labels import PLACES, _box, mark_boxes, placed


def test_names_lie_over_nothing_and_within_the_figure() -> None:
    draw = random.Random(0)
    for _ in range(200):
        points = {f"method {number}": (draw.random(), draw.random()) for number in range(12)}
        taken = [
            box for x, y in points.values() for box in mark_boxes((x, x - 0.05, x + 0.05), (y, y - 0.02, y + 0.02))
        ]
        found = placed(points, taken)
        boxes = [_box(name, *points[name], *place.split()) for name, place in found.items()]
        assert not any(one.meets(other) for one, other in combinations(boxes, 2))
        assert not any(box.meets(other) for box in boxes for other in taken)
        assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in boxes)
        assert found.keys() <= points.keys() and found


def test_a_name_takes_the_first_free_place() -> None:
    assert placed({"alone": (0.5, 0.5)}, []) == {"alone": " ".join(PLACES[0])}
    assert placed({"corner": (0.98, 0.02)}, []) == {"corner": "top left"}
    assert placed({"one": (0.5, 0.5), "two": (0.5, 0.5)}, []) == {"one": "bottom right", "two": "top right"}
    assert placed({f"{number}": (0.5, 0.5) for number in range(5)}, []).keys() == {"0", "1", "2", "3"}
