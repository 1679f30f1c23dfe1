"""The built-in tasks, loaded by name with `fl.task.load_task`."""
