"""`make quick` finds the tests of a changed file."""

import quick


def test_a_test_belongs_to_the_files_that_it_imports():
    found = quick.tests_of(["minimoe/model/router.py"])
    assert "tests/model/test_properties.py" in found and "tests/text/test_tokenizer.py" not in found
    assert quick.tests_of(["tests/house/test_quick.py", "README.md"]) == ["tests/house/test_quick.py"]
    assert quick.tests_of(["scripts/choose_torch.py"]) == []


def test_every_way_to_import_counts():
    source = "import minimoe.paths\nfrom minimoe.model import router\nfrom minimoe.text.chat import ChatTemplate"
    wanted = {"minimoe.paths", "minimoe.model.router", "minimoe.text.chat", "minimoe.text.chat.ChatTemplate"}
    assert wanted <= quick.imported(source)
