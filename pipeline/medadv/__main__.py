"""python -m medadv"""

from medadv.cli import main

main()
