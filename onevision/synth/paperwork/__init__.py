"""The parts of the document families: sheets, languages, and one file for each kind of page."""
