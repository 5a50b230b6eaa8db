"""Lists, annotations and feature files in the forms that the field uses."""
