"""python -m medadv"""

from medadv.cli.app import main

main()
