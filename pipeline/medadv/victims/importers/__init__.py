"""How do other tools' trained models become the settings of a victim? Read while planning; only plain settings are frozen and published."""
