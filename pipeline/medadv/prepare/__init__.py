"""How is it decided? What a run would do: survey, settings, what `auto` stands for, how long it takes."""
