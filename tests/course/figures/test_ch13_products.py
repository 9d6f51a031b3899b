"""The picture of products with packed weights, from the stored benchmark."""

from minimoe.course.figures import ch13_products


def test_speeds_are_ratios_of_the_stored_seconds() -> None:
    rows = [
        {"threads": threads, "rows": count, "way": way, "seconds": seconds * threads * count}
        for threads in (1, 2)
        for count in (1, 8)
        for way, seconds in {"bfloat16": 4.0, **dict.fromkeys(ch13_products.WAYS, 8.0), "int4, unpacked": 1.0}.items()
    ]
    found = ch13_products.speeds({"rows": rows}, threads=2)
    assert found["int4, unpacked"] == {1: 4.0, 8: 4.0} and found["int8, unpacked"] == {1: 0.5, 8: 0.5}


def test_the_stored_benchmark_has_every_way_and_the_picture_says_its_numbers() -> None:
    stored = ch13_products.benchmark()
    picture = ch13_products.product_speeds(stored, "A title")
    names = [trace.name.partition(":")[0] for trace in picture.figure.data]
    assert names == [name for name, *_ in ch13_products.WAYS.values()]
    first = ch13_products.speeds(stored)["int4, packed product"][1]
    assert f"int4, packed product: {first:.2g}, " in repr(picture)
    assert stored["processor"] in repr(picture.figure.layout.title.text)
