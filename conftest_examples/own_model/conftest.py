"""A model of one's own: anything that turns a task into text. Here, a table and a guess."""

KNOWN = {"Count the lines of data.csv": "wc -l < data.csv"}


class Table:
    name = "table"

    async def generate(self, request):
        return KNOWN.get(request.task.task, f"echo {request.task.task!r} > answer.txt")


def pytest_shelleval_model(name, settings):
    return Table() if name == "table" else None
